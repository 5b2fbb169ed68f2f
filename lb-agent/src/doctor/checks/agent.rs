//! What the agent itself warns of, and no other check has.

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "agent",
    examines: "what the agent itself warns of",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    facts
        .warnings
        .iter()
        // The check of next hops has these.
        .filter(|warning| {
            !warning.starts_with("the real ") || !warning.contains(" is unreachable: ")
        })
        .map(|warning| Finding::new(Severity::Warning, "", warning, "lbctl status"))
        .collect()
}
