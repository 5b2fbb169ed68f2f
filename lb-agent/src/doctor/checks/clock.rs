//! Whether the clock is kept in time: certificates, tokens and comparisons of logs depend on it.

use crate::doctor::{Check, Facts, Finding, HostFacts, RealHostFacts, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "clock",
    examines: "whether the clock is kept in time",
    find: |facts| common(&facts.host),
};

/// The same on a real.
pub static REAL: Check<RealHostFacts> = Check {
    name: CHECK.name,
    examines: CHECK.examines,
    find: |facts| common(&facts.host),
};

fn common(host: &HostFacts) -> Vec<Finding> {
    if host.clock_synchronized != Some(false) {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Note,
        "",
        "no service keeps the clock in time: certificates may be refused, and logs of several hosts cannot be compared",
        "timedatectl set-ntp true, or install chrony",
    )]
}
