//! A balancer between two networks: packets leave by another interface than they arrive on.

use lb_tests::{Agent, AgentOptions, RoutedNetwork};

use crate::fixture::{Backend, HTTP_V4, HTTP_V6, address_of, every_real_answers};

pub fn packets_leave_by_the_other_interface() {
    let network = RoutedNetwork::new().unwrap();
    let client = network.client().unwrap();
    let vips = [HTTP_V4, HTTP_V6];
    let reals: Vec<Backend> = (0..3)
        .map(|_| Backend::start(network.real().unwrap(), &vips).unwrap())
        .collect();
    let options = AgentOptions {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        ..AgentOptions::default()
    };
    let agent = Agent::start(&network.balancer, options).unwrap();
    let names = reals
        .iter()
        .map(|real| real.host.label().to_owned())
        .collect();
    for (vip, v6_reals) in [
        (HTTP_V4, false),
        (HTTP_V6, true),
        (HTTP_V4, true),
        (HTTP_V6, false),
    ] {
        for forward in ["ipip", "l2"] {
            let mixed = vip.starts_with('[') != v6_reals;
            if mixed && forward == "l2" {
                continue;
            }
            let reals: Vec<(String, u16)> = reals
                .iter()
                .map(|real| (address_of(real, v6_reals), 100))
                .collect();
            agent
                .add_service(vip, &format!("--forward {forward}"), &reals)
                .unwrap();
            every_real_answers(&client, vip, &names);
            agent.ctl(&format!("del-vip {vip}")).unwrap();
        }
    }
    let stats = agent.ctl_json("stats").unwrap();
    let redirected: u64 = stats["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|interface| interface["name"] == "eth0")
        .flat_map(|interface| interface["reasons"].as_array().unwrap())
        .filter(|reason| reason["verdict"] == "redirect")
        .map(|reason| reason["frames"].as_u64().unwrap())
        .sum();
    assert!(redirected > 0, "{stats:#}");
}
