//! A balancer at one end of a veth pair.

use lb_tests::{Agent, AgentOptions, Namespace, cable_without_xdp};

pub fn a_veth_whose_other_end_has_no_program_is_told() {
    let host = Namespace::new("host").unwrap();
    let balancer = Namespace::new("balancer").unwrap();
    cable_without_xdp((&host, "peer7", &[]), (&balancer, "eth0", &[])).unwrap();
    let agent = Agent::start(&balancer, AgentOptions::default()).unwrap();
    let status = agent.ctl_json("status").unwrap();
    let warning = status["interfaces"][0]["warning"].as_str().unwrap();
    for words in ["veth", "peer7", "no XDP program", "attach any XDP program"] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
}
