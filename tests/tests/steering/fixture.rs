//! What the tests have in common.

use std::{net::SocketAddr, time::Duration};

use lb_tests::{AgentOptions, client::MqttPlan, server::WebAndBroker, vip_target};

/// The VIP of brokers.
pub const MQTT: &str = "192.0.2.20:1883/tcp";
/// The VIP of web servers.
pub const HTTP: &str = "192.0.2.10:80/tcp";
/// The VIP of the web servers that stand in for those of [`HTTP`].
pub const SORRY: &str = "192.0.2.11:80/tcp";

/// Limit for what takes seconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A network with an agent, a client, and backends with nginx and Mosquitto.
pub type Testbed = lb_tests::Testbed<WebAndBroker>;
/// A backend with nginx and Mosquitto.
pub type Backend = lb_tests::Backend<WebAndBroker>;

/// Builds a testbed with backends for these VIPs, and an agent that knows nothing of them yet.
pub fn new_testbed(backends: usize, vips: &[&str]) -> Testbed {
    Testbed::new(backends, vips, AgentOptions::default()).unwrap()
}

/// Returns the address and port of a VIP.
pub fn target(vip: &str) -> SocketAddr {
    vip_target(vip).unwrap()
}

/// Returns the plan of MQTT clients that stay connected and publish.
pub fn devices(clients: usize) -> MqttPlan {
    MqttPlan {
        target: target(MQTT),
        clients,
        messages: None,
        payload: 50,
        pause: Duration::from_millis(100),
    }
}
