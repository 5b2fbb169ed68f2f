//! Every packet arrives exactly once, whatever happens to the agent and its configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lb_tests::{
    Agent, AgentOptions, Host, Namespace, Network,
    client::{NumberPlan, Numbers},
    server::Arrivals,
    wait_for,
};

use crate::fixture::{PATIENCE, Sink, target};

const VIP: &str = "192.0.2.40:5000/udp";

/// The VIP's window. A flow that is silent for longer may move, so the window is longer than a busy machine delays a
/// thread; it is short enough to be waited for.
const WINDOW: &str = "10s";

/// Flows that last as long as the stream; others begin all the time.
const FLOWS: u16 = 60;

/// Numbers that must have been sent at each stage.
const SOME: u64 = 3_000;

/// Returns the kernel's id of the attached program.
fn program(balancer: &Namespace) -> String {
    let link = balancer.sh("ip -details link show eth0").unwrap();
    let words: Vec<&str> = link.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "prog/xdp").unwrap();
    assert_eq!(words[place + 1], "id", "{link}");
    words[place + 2].to_owned()
}

fn usable(agent: &Agent, real: &Host) {
    wait_for("a next hop to the real", PATIENCE, || {
        let list = agent.ctl_json(&format!("list {VIP}"))?;
        let known = list[0]["reals"].as_array().is_some_and(|reals| {
            reals.iter().any(|known| {
                known["address"] == real.v4.to_string().as_str() && known["state"] != "unreachable"
            })
        });
        Ok(known.then_some(()))
    })
    .unwrap();
}

pub fn no_packet_is_lost_or_duplicated() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let mut sinks: Vec<Sink> = (0..3)
        .map(|_| Sink::new(&network, VIP, &arrivals))
        .collect();
    let spare = Sink::new(&network, VIP, &arrivals);
    let mut agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    let reals: Vec<(String, u16)> = sinks
        .iter()
        .map(|sink| (sink.host.v4.to_string(), 100))
        .collect();
    agent
        .add_service(VIP, &format!("--forward ipip --window {WINDOW}"), &reals)
        .unwrap();
    for sink in &sinks {
        usable(&agent, &sink.host);
    }

    let plan = NumberPlan {
        target: target(VIP),
        source: client.v4,
        first_port: 20_000,
        flows: FLOWS,
    };
    let numbers = Numbers::start(&client, plan, &arrivals);
    // A stream that ends early has lost a datagram.
    let under_load = || {
        if let Err(error) = numbers.wait_sent(SOME, PATIENCE) {
            panic!(
                "{error:#}: {} sent, {} arrived",
                numbers.sent(),
                arrivals.count()
            );
        }
    };
    under_load();

    // The agent is killed and started again; the new one replaces the program.
    for _ in 0..3 {
        let before = program(&network.balancer);
        agent.kill().unwrap();
        under_load();
        assert_eq!(program(&network.balancer), before);
        agent.run().unwrap();
        under_load();
        assert_ne!(program(&network.balancer), before, "an upgrade");
        assert_eq!(agent.ctl_json("status").unwrap()["adopted"], true);
    }
    // The agent is stopped as an operator does it.
    agent.stop().unwrap();
    under_load();
    agent.run().unwrap();
    under_load();

    for weight in [50, 1, 65_535, 0, 100] {
        // One real must take flows at every moment, or a new flow would have no real.
        agent
            .ctl(&format!("set-real {VIP} {} --weight 200", reals[0].0))
            .unwrap();
        for (address, _) in &reals[1..] {
            agent
                .ctl(&format!("set-real {VIP} {address} --weight {weight}"))
                .unwrap();
        }
        under_load();
    }
    let added = spare.host.v4;
    // There is no neighbour entry for it yet: it must take new flows only once its next hop is known.
    agent
        .ctl(&format!("add-real {VIP} {added} --weight 300"))
        .unwrap();
    under_load();
    // A datagram does not show that its flow is new: for one window unknown flows go to the previous reals.
    let label = spare.host.label().to_owned();
    wait_for("flows on the added real", PATIENCE, || {
        Ok((arrivals.all().iter())
            .any(|(sink, _)| *sink == label)
            .then_some(()))
    })
    .unwrap();
    sinks.push(spare);
    under_load();

    let sent = numbers.stop().unwrap();
    // After this wait a missing datagram is lost.
    let _ = wait_for("the last numbers", PATIENCE, || {
        Ok((arrivals.count() >= sent).then_some(()))
    });
    let mut times: BTreeMap<u64, u32> = (0..sent).map(|number| (number, 0)).collect();
    let mut homes: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for (sink, arrival) in arrivals.all() {
        *times.entry(arrival.number).or_default() += 1;
        homes.entry(arrival.source_port).or_default().insert(sink);
    }
    let wrong: Vec<(u64, u32)> = times.into_iter().filter(|(_, times)| *times != 1).collect();
    assert!(
        wrong.is_empty(),
        "of {sent} numbers, {} did not arrive once (number, times): {:?}\n{}",
        wrong.len(),
        &wrong[..wrong.len().min(40)],
        agent.ctl("stats").unwrap()
    );
    // Each flow has stayed on its real, since no real was removed.
    let moved: Vec<_> = homes.iter().filter(|(_, homes)| homes.len() != 1).collect();
    assert!(homes.len() > usize::from(FLOWS));
    assert!(moved.is_empty(), "of {} flows: {moved:?}", homes.len());
    // The agent counts one packet per datagram.
    let stats = agent.ctl_json(&format!("stats {VIP}")).unwrap();
    assert_eq!(stats["vips"][0]["packets"], sent, "{stats:#}");
}
