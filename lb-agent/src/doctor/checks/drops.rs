//! Packets that were dropped for reasons that an operator can do something about.

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "drops",
    examines: "whether packets were dropped since forwarding began",
    find,
};

/// Reasons, what they mean, and what to do.
const REASONS: [(&str, Severity, &str, &str); 6] = [
    (
        "no_next_hop",
        Severity::Warning,
        "the way to their real was not known",
        "lbctl list; lbctl status",
    ),
    (
        "no_headroom",
        Severity::Problem,
        "the driver leaves no room in front of a frame for the outer header",
        "start lb-agent run with --xdp-mode generic, or use another driver",
    ),
    (
        "bad_tables",
        Severity::Problem,
        "the tables contradicted each other, which is a defect of the agent",
        "report it with the output of lbctl status -o json",
    ),
    (
        "too_large",
        Severity::Warning,
        "they did not fit the way to their real",
        "give the network between balancer and reals a larger MTU; lbctl capture --reason too_large -w FILE shows them",
    ),
    (
        "no_real",
        Severity::Warning,
        "their VIP had no real that takes flows",
        "lbctl list; lbctl why",
    ),
    (
        "bad_checksum",
        Severity::Note,
        "the checksum of their IPv4 header was wrong",
        "lbctl capture --reason bad_checksum -w FILE shows who sends them",
    ),
];

fn find(facts: &Facts) -> Vec<Finding> {
    let frames = |reason| facts.reasons.get(reason).copied().unwrap_or_default();
    REASONS
        .iter()
        .filter(|(reason, ..)| frames(reason) > 0)
        .map(|(reason, severity, meaning, mend)| {
            let seen = format!(
                "{} packets were dropped ({reason}): {meaning}",
                frames(reason)
            );
            Finding::new(*severity, "", seen, *mend)
        })
        .collect()
}
