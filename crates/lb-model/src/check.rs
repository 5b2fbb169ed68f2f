//! Health checks: how a VIP's reals are probed, and the overrides of a real.

use std::{net::IpAddr, time::Duration};

use crate::component::Component;
use crate::options::Forward;
use crate::settings::{FieldError, Map, NOT_SET, Settings as _};
use crate::vip::{VipKey, check_unicast};

/// The default time between two probes. It equals the period of steering.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// The default time between two probes while the state is in doubt.
pub const DEFAULT_FAST_INTERVAL: Duration = Duration::from_secs(2);
/// The default time that a probe may take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest interval.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest interval.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
/// The shortest time-out. The longest is the interval.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(10);

crate::choice! {
    /// How a probe's packets reach a real.
    pub enum Via = Direct {
        /// To the real's own address, like any packet.
        Direct = "direct",
        /// To the VIP's address, forwarded to the real like clients' packets. It detects a real whose decapsulation, VIP
        /// address or MSS is wrong. In mode `nat` those go to the real's own address, and so do probes: as with `direct`.
        Tunnel = "tunnel",
    }
}

crate::settings! {
    /// How a VIP's reals are probed.
    pub struct Check {
        /// Time between two probes while the state is certain.
        interval: Duration = DEFAULT_INTERVAL, MIN_INTERVAL..=MAX_INTERVAL;
        /// Time between two probes in doubt: after a start, and while the last result disagrees with the state. The
        /// default is 2 s, or the interval if that is less.
        fast_interval: Option<Duration> = None, MIN_INTERVAL..=MAX_INTERVAL;
        /// How long a whole probe may take. The default is 2 s, or the interval if that is less.
        timeout: Option<Duration> = None, MIN_TIMEOUT..=MAX_INTERVAL;
        /// Number of successes in a row after which a real is up.
        healthy_threshold: u32 = 2, 1..=100;
        /// Number of failures in a row after which a real is down.
        unhealthy_threshold: u32 = 3, 1..=100;
        /// Port to probe. The default is the VIP's.
        port: Option<u16> = None, 1..=65_535;
        /// How the probe's packets reach the real.
        via: Via = Via::Direct;
        /// Percentage of the interval by which a probe may be early, so that probes are not synchronised. Probes are never
        /// late.
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
    /// Returns a check with this probe and defaults for all other settings.
    #[must_use]
    pub fn new(probe: Component) -> Self {
        let mut map = Map::from_iter([("kind".to_owned(), "".into())]);
        let mut check = Self::take(&mut map).expect("every setting but the probe has a default");
        check.probe = probe;
        check
    }

    /// Returns the time between two probes in doubt.
    #[must_use]
    pub fn fast_interval(&self) -> Duration {
        self.fast_interval
            .unwrap_or(DEFAULT_FAST_INTERVAL)
            .min(self.interval)
    }

    /// Returns how long a probe may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT).min(self.interval)
    }

    /// Returns the longest time from the death of a real until it is down, if probes are not delayed. In the worst case
    /// the real dies right after a success, and each probe of the threshold times out.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        let doubt = self.fast_interval().max(self.timeout());
        self.interval + doubt * self.unhealthy_threshold.saturating_sub(1) + self.timeout()
    }

    /// Checks that there is a port to probe, which a VIP for any port does not have.
    ///
    /// # Errors
    /// Fails if there is no port.
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
    /// The overrides of a VIP's check for a real.
    #[derive(Default, Eq, Hash)]
    pub struct CheckOverride {
        /// Whether this real is not probed. It counts as up.
        disabled: bool = false;
        /// Port to probe. The default is that of the check.
        port: Option<u16> = None, 1..=65_535;
        /// Address to probe instead of the real's, for example in a management network. The probe goes there directly.
        address: Option<IpAddr> = None;
        /// How the probe's packets reach the real. The default is that of the check.
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
    /// Returns how the probe's packets reach this real, which has this forwarding mode. In mode `nat` clients' packets go to
    /// the real's own address, and so do probes.
    #[must_use]
    pub fn via(&self, check: &Check, mode: Forward) -> Via {
        match self.address {
            None if mode != Forward::Nat => self.via.unwrap_or(check.via),
            _ => Via::Direct,
        }
    }
}
