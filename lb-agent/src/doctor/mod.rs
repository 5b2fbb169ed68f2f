//! The doctor: looks at what an operator may have got wrong, and says what mends it.
//!
//! A check is a file in `checks/` with a [`Check`], and its line in [`BALANCER`] or [`REAL`]. It judges [`Facts`], which are
//! read once, so it is pure.

mod checks;
pub mod facts;

pub use facts::{Facts, HostFacts, InterfaceFacts, RealFacts, RealHostFacts, VipFacts};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Packets are lost, or would be.
    Problem,
    /// It works, but worse than it could, or it may stop to work unnoticed.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The interface, VIP or real that it is about; empty if it is about the host.
    pub object: String,
    /// What was seen, and what it means.
    pub seen: String,
    /// The command that mends it, or what to do.
    pub mend: String,
}

impl Finding {
    fn new(
        severity: Severity,
        object: impl Into<String>,
        seen: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            object: object.into(),
            seen: seen.into(),
            mend: mend.into(),
        }
    }
}

/// One check, of facts of some kind.
#[derive(Debug)]
pub struct Check<F: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it examines.
    pub examines: &'static str,
    /// What is wrong.
    pub find: fn(&F) -> Vec<Finding>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// The check's name.
    pub name: &'static str,
    /// What it examines.
    pub examines: &'static str,
    /// What it found, the worst first.
    pub findings: Vec<Finding>,
}

/// The checks of a balancer.
pub static BALANCER: &[&Check<Facts>] = &[
    &checks::attachment::CHECK,
    &checks::offloads::CHECK,
    &checks::mtu::CHECK,
    &checks::next_hops::CHECK,
    &checks::reals::CHECK,
    &checks::reverse_path::CHECK,
    &checks::drops::CHECK,
    &checks::stack::CHECK,
    &checks::kernel::CHECK,
    &checks::clock::CHECK,
    &checks::agent::CHECK,
];

/// The checks of a real's host.
pub static REAL: &[&Check<RealHostFacts>] = &[
    &checks::real_vip::CHECK,
    &checks::real_decap::CHECK,
    &checks::real_silence::CHECK,
    &checks::real_reverse_path::CHECK,
    &checks::real_mtu_probing::CHECK,
    &checks::kernel::REAL,
    &checks::clock::REAL,
];

/// Runs all checks of a registry.
#[must_use]
pub fn examine<F>(checks: &[&Check<F>], facts: &F) -> Vec<Examined> {
    checks
        .iter()
        .map(|check| {
            let mut findings = (check.find)(facts);
            findings.sort_by_key(|finding| finding.severity);
            Examined {
                name: check.name,
                examines: check.examines,
                findings,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
