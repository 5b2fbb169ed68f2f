//! A testbed with one VIP, for what is measured with real clients and servers.

use std::{net::SocketAddr, time::Duration};

use lb_tests::{
    AgentOptions, Testbed,
    server::{Mosquitto, Nginx, StandardServer},
    vip_target,
};

/// Limit for what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A kind of server with a VIP for it.
pub trait Service: StandardServer {
    /// The VIP.
    const VIP: &str;

    /// Returns the address and port of the VIP.
    fn target() -> anyhow::Result<SocketAddr> {
        vip_target(Self::VIP)
    }
}

impl Service for Mosquitto {
    const VIP: &str = "192.0.2.20:1883/tcp";
}

impl Service for Nginx {
    const VIP: &str = "192.0.2.10:80/tcp";
}

/// Builds a testbed whose VIP has this many reals, and waits until all of them serve. `options` are further words of
/// `lbctl add-vip`.
pub fn build<S: Service>(reals: usize, options: &[&str]) -> anyhow::Result<Testbed<S>> {
    let testbed: Testbed<S> = Testbed::new(reals, &[S::VIP], AgentOptions::default())?;
    let backends: Vec<_> = testbed.backends.iter().collect();
    testbed.add_service(S::VIP, options, &backends)?;
    for backend in &testbed.backends {
        testbed.wait_serving(S::VIP, &backend.address())?;
    }
    Ok(testbed)
}
