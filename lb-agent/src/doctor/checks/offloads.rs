//! Whether an interface merges segments before the program sees them.

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "offloads",
    examines: "whether segments are merged before the program sees them (LRO, GRO)",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for interface in facts.interfaces.iter().filter(|at| at.attached) {
        let name = &interface.name;
        if interface.offloads.lro == Some(true) {
            findings.push(Finding::new(
                Severity::Problem,
                name,
                "LRO is on: merged segments are larger than the way to a real takes, and are dropped",
                format!("ethtool -K {name} lro off"),
            ));
        }
        // In the driver XDP comes before GRO; the kernel's own stack runs programs behind it.
        if !interface.native && interface.offloads.gro == Some(true) {
            findings.push(Finding::new(
                Severity::Warning,
                name,
                "GRO is on, and the program runs in generic mode, which is behind it: merged segments may be larger than \
                 the way to a real takes, and are dropped",
                format!("ethtool -K {name} gro off"),
            ));
        }
    }
    findings
}
