//! Limits of the TCP connections that begin.

use std::time::Duration;

use crate::settings::FieldError;

crate::choice! {
    /// What happens to a TCP connection that exceeds a limit.
    pub enum OverLimit = Drop {
        /// Its first packet is dropped: the client tries again after one second, two, four ...
        Drop = "drop",
        /// It is answered with a reset: the client knows at once.
        Reset = "reset",
    }
}

crate::settings! {
    /// Limits of the TCP connections that begin. Running connections do not count. Each balancer counts by itself.
    pub struct FlowLimits {
        /// Connections a second with the VIP; without it any number.
        rate: Option<u32> = None, 1..=10_000_000;
        /// The same for each real.
        real_rate: Option<u32> = None, 1..=10_000_000;
        /// The same for each prefix of client addresses; clients that exceed it take nothing from the others.
        source_rate: Option<u32> = None, 1..=10_000_000;
        /// Length of the prefixes of IPv4 clients.
        source_prefix_v4: u32 = 24, 1..=32;
        /// Length of the prefixes of IPv6 clients.
        source_prefix_v6: u32 = 56, 1..=64;
        /// What comes in this time at the limit's rate may come at once, at least one connection.
        burst: Duration = Duration::from_secs(1), Duration::from_millis(1)..=Duration::from_secs(3_600);
        /// What happens to a connection that exceeds a limit.
        over: OverLimit = OverLimit::Drop;
    }
    validate(limits) {
        if limits.rate.is_none() && limits.real_rate.is_none() && limits.source_rate.is_none() {
            return Err(FieldError::missing("rate", "give at least one of rate, real_rate and source_rate"));
        }
        Ok(())
    }
}
