//! What the operator says about hosts: `[hosts]` of the configuration file.

use std::{net::SocketAddr, time::Duration};

lb_model::settings! {
    /// Hosts that run instances for this controller.
    pub struct HostSettings {
        /// Where hosts connect, over TLS: an address and a port that they reach.
        listen: SocketAddr;
        /// How long a host's certificate lasts; it is renewed after half of that.
        certificate_lifetime: Duration = Duration::from_secs(30 * 86_400), Duration::from_secs(10)..=Duration::from_secs(3_650 * 86_400);
        /// How long a host may be silent before it is asked for a proof that it is lost: that nobody reaches its instances.
        lost_after: Duration = Duration::from_secs(10), Duration::from_secs(1)..=Duration::from_secs(3_600);
        /// Whether instances are moved from full hosts to empty ones.
        rebalance: bool = false;
        /// How often, at most, an instance is moved from a host or to it.
        rebalance_period: Duration = Duration::from_secs(600), Duration::from_secs(10)..=Duration::from_secs(86_400);
        /// How much less full the fuller one of two hosts must be after a move, as a part of a host.
        rebalance_gain: f64 = 0.2, 0.05..=1.0;
    }
}
