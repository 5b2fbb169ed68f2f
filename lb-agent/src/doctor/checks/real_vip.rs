//! Whether a real has the VIPs' addresses.

use crate::doctor::{Check, Finding, RealHostFacts, Severity};

pub static CHECK: Check<RealHostFacts> = Check {
    name: "vip",
    examines: "whether the VIPs are addresses of the loopback interface",
    find,
};

fn find(facts: &RealHostFacts) -> Vec<Finding> {
    let missing = facts
        .vips
        .iter()
        .filter(|vip| !facts.loopback.contains(vip));
    missing
        .map(|vip| {
            let interfaces: Vec<_> = facts.interfaces.iter().map(|at| at.name.as_str()).collect();
            Finding::new(
                Severity::Problem,
                vip.to_string(),
                "it is no address of lo: this host does not take packets for it",
                format!(
                    "lb-agent real --iface {} --vip {vip}, which has to run as long as this host is a real",
                    interfaces.join(" ")
                ),
            )
        })
        .collect()
}
