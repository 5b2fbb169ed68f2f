//! Interfaces, programs and pins are taken away from a running agent.

use std::{fs, path::PathBuf};

use lb_dataplane::{KernelDataplane, netlink::NextHops, options::Options};
use lb_tests::{Agent, AgentOptions, Process};
use nix::sys::signal::Signal;

use crate::fixture::{PATIENCE, Web, serving, wait_attached, wait_served};

/// The balancer's address and prefix lengths, to give an interface that is recreated.
fn addresses(testbed: &Web) -> Vec<String> {
    let balancer = &testbed.network.balancer;
    vec![format!("{}/16", balancer.v4), format!("{}/64", balancer.v6)]
}

/// Makes the other hosts forget MAC addresses of an interface that is no more.
fn forget_neighbours(testbed: &Web) {
    testbed.client.sh("ip neigh flush all").unwrap();
    for backend in &testbed.backends {
        backend.host.sh("ip neigh flush all").unwrap();
    }
}

/// What `lbctl watch` prints.
fn watcher(agent: &Agent) -> Process {
    let command = agent.lbctl_command(["watch"]).unwrap();
    let mut process = Process::start("lbctl watch", command).unwrap();
    process.wait_line("", "snapshot_end", PATIENCE).unwrap();
    process
}

pub fn an_interface_that_is_recreated_is_attached_again() {
    let options = AgentOptions {
        arguments: vec!["--metrics".to_owned(), "127.0.0.1:9464".to_owned()],
        ..AgentOptions::default()
    };
    let testbed = serving(1, options);
    let mut watcher = watcher(&testbed.agent);
    let balancer = &testbed.network.balancer;
    balancer.sh("ip link del eth0").unwrap();
    let warning = wait_attached(&testbed, "eth0", false);
    assert!(warning.contains("the interface is gone"), "{warning}");
    let table = testbed.agent.ctl("status").unwrap();
    assert!(
        table.contains("WARNING: eth0: the interface is gone"),
        "{table}"
    );
    watcher
        .wait_line("", "interface_changed interface eth0 detached", PATIENCE)
        .unwrap();
    let refused = testbed
        .agent
        .lbctl([
            "simulate",
            "--flow",
            "tcp 198.51.100.7:1000 -> 192.0.2.10:80",
        ])
        .unwrap_err();
    assert!(
        format!("{refused:#}").contains("eth0 are not forwarded"),
        "{refused:#}"
    );
    let metrics = || -> String {
        use std::io::{Read as _, Write as _};
        balancer
            .enter(|| {
                let mut stream = std::net::TcpStream::connect("127.0.0.1:9464").unwrap();
                stream
                    .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                text
            })
            .unwrap()
    };
    let text = metrics();
    assert!(
        text.contains("lb_interface_attached{interface=\"eth0\"} 0"),
        "{text}"
    );

    let switch = testbed.network.switch();
    switch.plug(balancer, "eth0", &addresses(&testbed)).unwrap();
    let warning = wait_attached(&testbed, "eth0", true);
    assert_eq!(warning, "");
    watcher
        .wait_line("", "interface_changed interface eth0 native", PATIENCE)
        .unwrap();
    let text = metrics();
    assert!(
        text.contains("lb_interface_attached{interface=\"eth0\"} 1"),
        "{text}"
    );
    forget_neighbours(&testbed);
    wait_served(&testbed);
}

pub fn pins_that_are_removed_are_made_again() {
    let mut testbed = serving(1, AgentOptions::default());
    let pins = testbed.agent.pins().to_owned();
    for folder in ["links", "maps-1", ""] {
        fs::remove_dir_all(pins.join(folder)).unwrap();
        lb_tests::wait_for("the pins", PATIENCE, || {
            let all = ["links/eth0", "maps-1/RINGS", "maps-1/AYA_LOGS", "balancer"];
            Ok(all.iter().all(|pin| pins.join(pin).exists()).then_some(()))
        })
        .unwrap();
        wait_attached(&testbed, "eth0", true);
        wait_served(&testbed);
    }
    // The next agent goes on with them.
    testbed.agent.kill().unwrap();
    testbed.agent.run().unwrap();
    assert_eq!(testbed.agent.ctl_json("status").unwrap()["adopted"], true);
    wait_served(&testbed);
}

/// A folder of pins that is removed in the end.
struct OtherPins(PathBuf);

impl Drop for OtherPins {
    fn drop(&mut self) {
        let _ = lb_dataplane::detach(&self.0, true);
    }
}

pub fn another_program_in_its_place_is_told_and_waited_for() {
    let testbed = serving(1, AgentOptions::default());
    let mut pins = testbed.agent.pins().to_owned().into_os_string();
    pins.push("-other");
    let other = OtherPins(pins.into());
    testbed.agent.signal(Signal::SIGSTOP).unwrap();
    lb_dataplane::detach(testbed.agent.pins(), true).unwrap();
    let options = Options {
        pins: other.0.clone(),
        ..Options::new(vec!["eth0".to_owned()])
    };
    let plane = testbed
        .network
        .balancer
        .enter(|| {
            let (hops, _changes) = NextHops::start().unwrap();
            KernelDataplane::start(&options, Box::new(hops)).unwrap()
        })
        .unwrap();
    testbed.agent.signal(Signal::SIGCONT).unwrap();
    let warning = wait_attached(&testbed, "eth0", false);
    assert!(warning.contains("another XDP program"), "{warning}");
    drop(plane);
    drop(other);
    wait_attached(&testbed, "eth0", true);
    wait_served(&testbed);
}

pub fn an_interface_that_is_missing_at_the_start_is_waited_for() {
    let options = AgentOptions {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        ..AgentOptions::default()
    };
    let mut testbed = serving(1, options);
    let warning = wait_attached(&testbed, "eth1", false);
    assert!(warning.contains("missing"), "{warning}");

    testbed.agent.stop().unwrap();
    let arguments = &mut testbed.agent.options_mut().arguments;
    arguments.push("--strict-interfaces".to_owned());
    let refused = format!("{:#}", testbed.agent.run().unwrap_err());
    for words in ["eth1", "--strict-interfaces"] {
        assert!(refused.contains(words), "{refused}");
    }
    testbed.agent.options_mut().arguments.clear();
    testbed.agent.run().unwrap();
    let balancer = &testbed.network.balancer;
    let switch = testbed.network.switch();
    switch.plug(balancer, "eth1", &[]).unwrap();
    wait_attached(&testbed, "eth1", true);
    wait_served(&testbed);
}
