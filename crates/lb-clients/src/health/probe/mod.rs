//! One probe of one real, from the first packet to the verdict.
//!
//! Each kind of probe is a file: its settings with their help and validation, and the code that probes. [`PROBES`]
//! lists them; API, command line, files and documentation derive from the registry [`PROBES`].
//!
//! Whatever a real does, a probe ends at its time-out, holds 64 KiB of an answer at most, and says why it failed.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod https;
mod kind;
pub mod mqtt;
pub mod redis;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod tests;

use std::{sync::OnceLock, time::Duration};

use lb_model::{
    check::Check,
    component::Component,
    settings::FieldError,
    vip::{RealId, VipKey},
};
use tokio::time::Instant;

use super::{Outcome, Verdict};
use crate::peer::{Deadline, Target, descriptors};
use kind::AnyProbe;
pub use kind::{Attempt, Finding, Probe, ProbeKind};

crate::registry! {
    /// The kinds of probe, in the order of the documentation.
    pub static PROBES: ProbeKind = "probe" named by "kind";
    tcp, http, https, mqtt, grpc, redis, udp, exec,
}

/// Checks the settings of a check with those of its probe, and fills in defaults.
///
/// # Errors
/// An unknown kind of probe, or the first setting that cannot be used.
pub fn normalize(check: &Check) -> Result<Check, FieldError> {
    PROBES.normalize(check)
}

/// Checks whether the reals of this VIP can be probed so.
///
/// # Errors
/// The VIP is of any port, and the check names none.
pub fn validate_for(check: &Check, vip: &VipKey) -> Result<(), FieldError> {
    check.validate_for(vip, find(&check.probe.kind)?.kind.needs_port)
}

/// Whether the check runs a program on the balancer.
#[must_use]
pub fn runs_program(check: &Check) -> bool {
    find(&check.probe.kind).is_ok_and(|kind| kind.kind.runs_program)
}

fn find(name: &str) -> Result<&'static ProbeKind, FieldError> {
    let named = PROBES.find(name)?.name;
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.kind.name == named)
        .ok_or_else(|| unreachable!("the registry is made from the list of kinds"))
}

/// Probes one real of one VIP, again and again.
#[derive(Debug)]
pub struct Prober {
    probe: Result<Box<dyn AnyProbe>, FieldError>,
    timeout: Duration,
    vip: VipKey,
    real: RealId,
}

impl Prober {
    /// A prober of `real` for `vip`. A check that [`normalize`] would refuse finds the real unhealthy, and says why.
    #[must_use]
    pub fn new(check: &Check, vip: VipKey, real: RealId) -> Self {
        Prober {
            probe: start(&check.probe),
            timeout: check.timeout(),
            vip,
            real,
        }
    }

    /// Probes once. It ends at the check's time-out, to which the time is added that this process slept through; dropped
    /// before, it leaves nothing behind.
    pub async fn run(&mut self, target: &Target) -> Outcome {
        let start = Instant::now();
        let deadline = Deadline::after(self.timeout);
        let answered = OnceLock::new();
        let attempt = Attempt {
            vip: &self.vip,
            real: self.real,
            target,
            deadline: &deadline,
            answered: &answered,
        };
        let (verdict, reason) = match &mut self.probe {
            Ok(probe) => probe.run(&attempt).await.unwrap_or_else(|error| {
                let verdict = if error.is_local() {
                    Verdict::Inconclusive
                } else {
                    Verdict::Unhealthy
                };
                (verdict, error.to_string())
            }),
            Err(error) => (Verdict::Unhealthy, format!("the check: {error}")),
        };
        // Everything that the probe had open is closed.
        descriptors::refill();
        let end = answered.get().copied().unwrap_or_else(Instant::now);
        Outcome::new(verdict, &reason, end.saturating_duration_since(start))
    }
}

fn start(probe: &Component) -> Result<Box<dyn AnyProbe>, FieldError> {
    (find(&probe.kind)?.start)(probe)
}
