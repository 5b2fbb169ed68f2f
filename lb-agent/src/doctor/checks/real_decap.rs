//! Whether a real takes outer headers off.

use crate::doctor::{Check, Finding, RealHostFacts, Severity};

pub static CHECK: Check<RealHostFacts> = Check {
    name: "decap",
    examines: "whether a program takes outer headers off",
    find,
};

fn find(facts: &RealHostFacts) -> Vec<Finding> {
    let vips: Vec<_> = facts.vips.iter().map(ToString::to_string).collect();
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let name = &interface.name;
        let run = format!("lb-agent real --iface {name} --vip {}", vips.join(" "));
        if interface.link.is_none() {
            findings.push(Finding::new(
                Severity::Problem,
                name,
                "there is no such interface",
                "ip link lists the interfaces",
            ));
        } else if facts.tunnelled && !interface.attached {
            findings.push(Finding::new(
                Severity::Problem,
                name,
                "no XDP program is attached, so packets stay in their outer header and are lost, unless a tunnel device \
                 takes it off",
                run,
            ));
        } else if facts.tunnelled && !interface.native {
            findings.push(Finding::new(
                Severity::Warning,
                name,
                "the program that takes outer headers off runs in generic mode, which is several times slower",
                format!("ethtool -i {name} shows the driver: use one with XDP"),
            ));
        }
    }
    findings
}
