//! What an operator can say: how a VIP's reals are probed, and what one real has differently.

#[doc(hidden)]
pub mod examples;
mod octets;
mod overrides;
mod probe;
mod range;
mod statuses;
mod written;

use std::time::Duration;

use lb_model::vip::VipAddress;
use serde::{Deserialize, Serialize};

pub use crate::peer::mqtt::Version;
pub use octets::Octets;
pub use overrides::CheckOverride;
pub use probe::{Exec, Expect, Grpc, Http, Json, Mqtt, Probe, Udp};
pub use statuses::Statuses;

/// Time between two probes while nothing is in doubt: the control period of the steering law.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two probes in doubt; dead is, by the reference, who fails three times at 2 s.
pub const DEFAULT_FAST_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe may take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers in a row that make a real up; the reference's.
pub const DEFAULT_HEALTHY_THRESHOLD: u32 = 2;
/// Failures in a row that make a real down; the reference's.
pub const DEFAULT_UNHEALTHY_THRESHOLD: u32 = 3;
/// Percent of an interval by which a probe may be early, so that probes do not march in step.
pub const DEFAULT_JITTER: u32 = 10;

/// The shortest and the longest interval.
pub const INTERVALS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(3_600));
/// The shortest time-out; the longest is the interval.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);
/// The highest threshold.
pub const MAX_THRESHOLD: u32 = 100;
/// The greatest jitter, in percent.
pub const MAX_JITTER: u32 = 50;

/// A field inside a check, its value, and what would be right.
pub type Fault = (String, String, String);

/// How a VIP's reals are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "written::Written", into = "written::Written")]
pub struct Check {
    /// What is asked and what is a good answer.
    pub probe: Probe,
    /// Time between two probes while nothing is in doubt, within [`INTERVALS`].
    pub interval: Duration,
    /// Time between two probes in doubt, 100 ms to `interval`: after a start, and from an outcome that
    /// disagrees with the state until they agree again.
    pub fast_interval: Duration,
    /// How long a probe may take as a whole, [`MIN_TIMEOUT`] to `interval`.
    pub timeout: Duration,
    /// Answers in a row that make a real up, 1 to [`MAX_THRESHOLD`].
    pub healthy_threshold: u32,
    /// Failures in a row that make a real down, 1 to [`MAX_THRESHOLD`].
    pub unhealthy_threshold: u32,
    /// The port that is probed. Default: the VIP's.
    pub port: Option<u16>,
    /// How the probe's packets get to the real.
    pub via: Via,
    /// Percent of an interval by which a probe may be early, 0 to [`MAX_JITTER`]. It is never late.
    pub jitter: u32,
}

/// How a probe's packets get to a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// To the real's own address, as any packet.
    #[default]
    Direct,
    /// To the VIP's address, forwarded to the real as clients' packets are: finds a real whose
    /// decapsulation, VIP address or MSS is wrong.
    Tunnel,
}

impl Check {
    /// This probe, everything else as by default.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Check {
            probe,
            interval: DEFAULT_INTERVAL,
            fast_interval: DEFAULT_FAST_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            healthy_threshold: DEFAULT_HEALTHY_THRESHOLD,
            unhealthy_threshold: DEFAULT_UNHEALTHY_THRESHOLD,
            port: None,
            via: Via::Direct,
            jitter: DEFAULT_JITTER,
        }
    }

    /// Fits the default times to the interval, so that one of 1 s alone is no fault.
    pub fn fit_defaults(&mut self) {
        self.fast_interval = DEFAULT_FAST_INTERVAL.min(self.interval);
        self.timeout = DEFAULT_TIMEOUT.min(self.interval);
    }

    /// The longest time from a real's death to its being down, if probes are not held up: it dies right
    /// after an answer, is found silent, and stays so for the threshold's failures.
    #[must_use]
    pub fn detection(&self) -> Duration {
        let doubt = self.fast_interval.max(self.timeout);
        self.interval + doubt * self.unhealthy_threshold.saturating_sub(1) + self.timeout
    }

    /// Whether it runs a program.
    #[must_use]
    pub const fn runs_program(&self) -> bool {
        matches!(self.probe, Probe::Exec(_))
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The field, its value and what would be right.
    pub fn validate(&self) -> Result<(), Fault> {
        let (shortest, longest) = INTERVALS;
        range::times("interval", self.interval, shortest, longest)?;
        range::times("fast_interval", self.fast_interval, shortest, self.interval)?;
        range::times("timeout", self.timeout, MIN_TIMEOUT, self.interval)?;
        for (field, threshold) in [
            ("healthy_threshold", self.healthy_threshold),
            ("unhealthy_threshold", self.unhealthy_threshold),
        ] {
            range::numbers(field, threshold, 1, MAX_THRESHOLD)?;
        }
        range::numbers("jitter", self.jitter, 0, MAX_JITTER)?;
        range::port("port", self.port)?;
        if self.runs_program() && self.via == Via::Tunnel {
            return Err(range::fault(
                "via",
                "tunnel",
                "a program's packets go their own way, give direct",
            ));
        }
        self.probe.validate()
    }

    /// Whether this VIP's reals can be probed so.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and when there is no port: a VIP of any port has none of its own.
    pub fn validate_for(&self, vip: &VipAddress) -> Result<(), Fault> {
        self.validate()?;
        if vip.port == 0 && self.port.is_none() && !self.runs_program() {
            return Err(range::fault(
                "port",
                "not set",
                "the VIP is of any port, give the port that is probed",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
