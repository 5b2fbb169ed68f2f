//! Health checks: how a VIP's reals are probed, and what differs for one real.

use std::{net::IpAddr, time::Duration};

use crate::component::Component;
use crate::settings::{FieldError, Map, NOT_SET, Settings as _};
use crate::vip::{VipKey, check_unicast};

/// Time between two probes by default: the control period of steering.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two probes while the state is in doubt, by default.
pub const DEFAULT_FAST_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe may take by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest interval.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest interval.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
/// The shortest time-out; the longest is the interval.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);

crate::choice! {
    /// How a probe's packets reach a real.
    pub enum Via = Direct {
        /// To the real's own address, as any packet.
        Direct = "direct",
        /// To the VIP's address, forwarded to the real as clients' packets are: finds a real whose decapsulation, VIP
        /// address or MSS is wrong.
        Tunnel = "tunnel",
    }
}

crate::settings! {
    /// How a VIP's reals are probed.
    pub struct Check {
        /// Time between two probes while the state is certain.
        interval: Duration = DEFAULT_INTERVAL, MIN_INTERVAL..=MAX_INTERVAL;
        /// Time between two probes in doubt: after a start, and from an outcome that disagrees with the state until they
        /// agree again. Without it 2 s, or the interval if that is less.
        fast_interval: Option<Duration> = None, MIN_INTERVAL..=MAX_INTERVAL;
        /// How long a probe may take as a whole. Without it 2 s, or the interval if that is less.
        timeout: Option<Duration> = None, MIN_TIMEOUT..=MAX_INTERVAL;
        /// Successes in a row that make a real up.
        healthy_threshold: u32 = 2, 1..=100;
        /// Failures in a row that make a real down.
        unhealthy_threshold: u32 = 3, 1..=100;
        /// Port that is probed; without it the VIP's.
        port: Option<u16> = None, 1..=65_535;
        /// How the probe's packets reach the real.
        via: Via = Via::Direct;
        /// Percent of an interval by which a probe may be early, so that probes do not march in step; it is never late.
        jitter: u32 = 10, 0..=50;
        ..probe: "kind";
    }
    validate(check) {
        for (field, time) in [
            ("fast_interval", check.fast_interval),
            ("timeout", check.timeout),
        ] {
            if let Some(time) = time && time > check.interval {
                let interval = crate::duration::format(check.interval);
                let advice = format!("longer than the interval, give {interval} or less");
                return Err(FieldError::new(field, crate::duration::format(time), advice));
            }
        }
        Ok(())
    }
}

impl Check {
    /// A check with this probe; everything else has its default.
    #[must_use]
    pub fn new(probe: Component) -> Self {
        let mut map = Map::from_iter([("kind".to_owned(), "".into())]);
        let mut check = Self::take(&mut map).expect("every setting but the probe has a default");
        check.probe = probe;
        check
    }

    /// Time between two probes in doubt.
    #[must_use]
    pub fn fast_interval(&self) -> Duration {
        self.fast_interval
            .unwrap_or(DEFAULT_FAST_INTERVAL)
            .min(self.interval)
    }

    /// How long a probe may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT).min(self.interval)
    }

    /// The longest time from a real's death to its being down, if probes are not held up: the real dies right after a
    /// success, and each probe of the threshold fails by time-out.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        let doubt = self.fast_interval().max(self.timeout());
        self.interval + doubt * self.unhealthy_threshold.saturating_sub(1) + self.timeout()
    }

    /// Whether a VIP's reals can be probed so: a VIP of any port has no port to probe.
    ///
    /// # Errors
    /// There is no port.
    pub fn validate_for(&self, vip: &VipKey, needs_port: bool) -> Result<(), FieldError> {
        if needs_port && vip.port == 0 && self.port.is_none() {
            return Err(FieldError::new(
                "port",
                NOT_SET,
                "the VIP is of any port, give the port that is probed",
            ));
        }
        Ok(())
    }
}

crate::settings! {
    /// What of a VIP's check differs for one real.
    #[derive(Default, Eq, Hash)]
    pub struct CheckOverride {
        /// Do not probe this real: it counts as up.
        disabled: bool = false;
        /// Port that is probed; without it the check's.
        port: Option<u16> = None, 1..=65_535;
        /// Address that is probed if it is not the real's, of a management network for example; the probe goes there
        /// directly.
        address: Option<IpAddr> = None;
        /// How the probe's packets reach the real; without it as the check says.
        via: Option<Via> = None;
    }
    validate(change) {
        let Some(address) = change.address else {
            return Ok(());
        };
        check_unicast(address)
            .map_err(|error| FieldError::new("address", address, error.to_string()))?;
        if change.via == Some(Via::Tunnel) {
            return Err(FieldError::new(
                "via",
                "tunnel",
                "through the tunnel the VIP's own address is probed; leave out the address or give direct",
            ));
        }
        Ok(())
    }
}

impl CheckOverride {
    /// How the probe's packets reach this real.
    #[must_use]
    pub fn via(&self, check: &Check) -> Via {
        match self.address {
            Some(_) => Via::Direct,
            None => self.via.unwrap_or(check.via),
        }
    }
}
