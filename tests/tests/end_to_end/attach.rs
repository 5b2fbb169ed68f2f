//! How the agent attaches, and what it says where an interface cannot do better.

use lb_tests::{Agent, AgentOptions, Site, XdpMode};

/// No kernel has native XDP on it.
const INTERFACE: &str = "lo";

fn options(mode: XdpMode) -> AgentOptions {
    AgentOptions {
        interfaces: vec![INTERFACE.to_owned()],
        mode,
        ..AgentOptions::default()
    }
}

#[test]
fn native_mode_does_not_fall_back() {
    let site = Site::new().unwrap();
    let refused = Agent::start(&site.balancer, options(XdpMode::Native)).unwrap_err();
    let message = format!("{refused:#}");
    for word in ["lo", "native mode", "--xdp-mode auto"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let link = site.balancer.sh("ip -details link show lo").unwrap();
    assert!(!link.contains("xdp"), "{link}");
}

#[test]
fn auto_falls_back_and_says_so() {
    let site = Site::new().unwrap();
    let agent = Agent::start(&site.balancer, options(XdpMode::Auto)).unwrap();
    let link = site.balancer.sh("ip -details link show lo").unwrap();
    assert!(link.contains("xdpgeneric"), "{link}");
    let status = agent.ctl_json("status").unwrap();
    let interface = &status["interfaces"][0];
    assert_eq!(interface["name"], INTERFACE, "{status:#}");
    assert_eq!(interface["xdp_mode"], "generic", "{status:#}");
    let warning = interface["warning"].as_str().unwrap();
    assert!(warning.contains("generic XDP mode"), "{warning}");
    let table = agent.ctl("status").unwrap();
    assert!(table.contains("WARNING: lo: "), "{table}");

    // Where the driver can, the same word gives native mode, and there is nothing to warn of.
    let options = AgentOptions {
        mode: XdpMode::Auto,
        ..AgentOptions::default()
    };
    let other = Site::new().unwrap();
    let agent = Agent::start(&other.balancer, options).unwrap();
    let status = agent.ctl_json("status").unwrap();
    let interface = &status["interfaces"][0];
    assert_eq!(interface["xdp_mode"], "native", "{status:#}");
    assert_eq!(interface["warning"], "", "{status:#}");
}
