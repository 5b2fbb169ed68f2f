//! Whether packets meet the program, and where it runs.

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "attachment",
    examines: "whether the interfaces' packets meet the program, in the driver",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let name = &interface.name;
        let mut add = |severity, seen: String, mend: String| {
            findings.push(Finding::new(severity, name, seen, mend));
        };
        let Some(link) = &interface.link else {
            add(
                Severity::Problem,
                "the interface is missing, so no packet comes in by it".to_owned(),
                "ip link; the agent attaches when it is there".to_owned(),
            );
            continue;
        };
        if !interface.attached {
            let seen = format!("packets are not forwarded: {}", interface.warning);
            add(Severity::Problem, seen, format!("ip link show {name}"));
        } else if !interface.native {
            add(
                Severity::Warning,
                "the program runs in generic mode, which is several times slower than in the driver".to_owned(),
                format!(
                    "ethtool -i {name} shows the driver: use one with XDP, and an MTU that it takes with XDP; then start \
                     lb-agent run with --xdp-mode native"
                ),
            );
        } else if interface.warning.contains("veth") {
            add(
                Severity::Problem,
                interface.warning.clone(),
                "attach an XDP program that passes every frame to the other end of the pair"
                    .to_owned(),
            );
        }
        if !link.up {
            add(
                Severity::Problem,
                "the interface is down".to_owned(),
                format!("ip link set {name} up"),
            );
        } else if !link.carrier {
            add(
                Severity::Problem,
                "the interface has no carrier".to_owned(),
                format!("ethtool {name}; look at the cable, or at the other end"),
            );
        }
    }
    findings
}
