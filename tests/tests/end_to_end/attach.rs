//! XDP modes, and the warning about an interface without native XDP.

use lb_tests::{Agent, AgentOptions, Network, XdpMode};

/// An interface without native XDP in any kernel.
const INTERFACE: &str = "lo";

fn options(mode: XdpMode) -> AgentOptions {
    AgentOptions {
        interfaces: vec![INTERFACE.to_owned()],
        mode,
        ..AgentOptions::default()
    }
}

pub fn native_mode_does_not_fall_back() {
    let network = Network::new().unwrap();
    let refused = Agent::start(&network.balancer, options(XdpMode::Native)).unwrap_err();
    let message = format!("{refused:#}");
    for word in ["lo", "native mode", "--xdp-mode auto"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let link = network.balancer.sh("ip -details link show lo").unwrap();
    assert!(!link.contains("xdp"), "{link}");
}

pub fn auto_falls_back_and_says_so() {
    let network = Network::new().unwrap();
    let agent = Agent::start(&network.balancer, options(XdpMode::Auto)).unwrap();
    let link = network.balancer.sh("ip -details link show lo").unwrap();
    assert!(link.contains("xdpgeneric"), "{link}");
    let status = agent.ctl_json("status").unwrap();
    let interface = &status["interfaces"][0];
    assert_eq!(interface["name"], INTERFACE, "{status:#}");
    assert_eq!(interface["xdp_mode"], "generic", "{status:#}");
    let warning = interface["warning"].as_str().unwrap();
    assert!(warning.contains("generic XDP mode"), "{warning}");
    let table = agent.ctl("status").unwrap();
    assert!(table.contains("WARNING: lo: "), "{table}");

    // If the driver supports it, `auto` selects native mode without a warning.
    let options = AgentOptions {
        mode: XdpMode::Auto,
        ..AgentOptions::default()
    };
    let other = Network::new().unwrap();
    let agent = Agent::start(&other.balancer, options).unwrap();
    let status = agent.ctl_json("status").unwrap();
    let interface = &status["interfaces"][0];
    assert_eq!(interface["xdp_mode"], "native", "{status:#}");
    assert_eq!(interface["warning"], "", "{status:#}");
}
