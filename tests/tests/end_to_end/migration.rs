//! An upgrade to a build with another layout of the tables, and the way back, lose no packet.
//!
//! `lb-agent migrate --layout` puts the tables into the form that the older build adopts, with a program for
//! it; `lb-agent run` is the upgrade. `LB_MIGRATION_PACKETS` says how many packets are sent meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    sync::Arc,
    time::Duration,
};

use lb_common::tables::{meta::LAYOUT_VERSION, v2};
use lb_tests::{
    Agent, AgentOptions, Network, binary,
    client::{NumberPlan, Numbers},
    server::Arrivals,
    wait_for,
};

use crate::fixture::{PATIENCE, Sink, target};

const VIP: &str = "192.0.2.41:5000/udp";

/// The VIP's window, longer than a busy machine keeps a thread waiting: a flow that is silent for as long may
/// move to another real.
const WINDOW: &str = "10s";

/// Flows that last as long as the test; others begin all the time.
const FLOWS: u16 = 60;

/// Packets that are sent at least, unless `LB_MIGRATION_PACKETS` says otherwise.
const PACKETS: u64 = 20_000;

/// Packets between two migrations.
const BETWEEN: u64 = 2_000;

fn packets() -> u64 {
    std::env::var("LB_MIGRATION_PACKETS").map_or(PACKETS, |text| {
        text.parse()
            .expect("LB_MIGRATION_PACKETS is a number of packets")
    })
}

/// Puts the tables of a stopped agent into the previous layout.
fn migrate_back(agent: &Agent) {
    let program = binary("lb-agent").unwrap();
    let layout = v2::LAYOUT_VERSION.to_string();
    let words = [
        program.as_os_str(),
        OsStr::new("migrate"),
        OsStr::new("--layout"),
        OsStr::new(&layout),
        OsStr::new("--iface"),
        OsStr::new("eth0"),
        OsStr::new("--pins"),
        agent.pins().as_os_str(),
    ];
    let printed = agent.namespace().run(words).unwrap();
    assert!(
        printed.contains(&format!(
            "have layout {layout} now (before: {LAYOUT_VERSION})"
        )),
        "{printed}"
    );
}

fn wait_reachable(agent: &Agent, reals: usize) {
    wait_for("the reals to be reachable", PATIENCE, || {
        let list = agent.ctl_json(&format!("list {VIP}"))?;
        let reachable = list[0]["reals"].as_array().map_or(0, |reals| {
            reals
                .iter()
                .filter(|real| real["state"] != "unreachable")
                .count()
        });
        Ok((reachable == reals).then_some(()))
    })
    .unwrap();
}

pub fn no_packet_is_lost_or_doubled_while_tables_change_their_layout() {
    let network = Network::new().unwrap();
    let client = network.client().unwrap();
    let arrivals = Arc::new(Arrivals::default());
    let sinks: Vec<Sink> = (0..3)
        .map(|_| Sink::new(&network, VIP, &arrivals))
        .collect();
    let mut agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    let reals: Vec<(String, u16)> = sinks
        .iter()
        .map(|sink| (sink.host.v4.to_string(), 100))
        .collect();
    agent
        .add_service(VIP, &format!("--forward ipip --window {WINDOW}"), &reals)
        .unwrap();
    wait_reachable(&agent, reals.len());
    let plan = NumberPlan {
        target: target(VIP),
        source: client.v4,
        first_port: 20_000,
        flows: FLOWS,
    };
    let numbers = Numbers::start(&client, plan, &arrivals);
    let patience = PATIENCE + Duration::from_secs(BETWEEN / 100);
    let under_load = || {
        if let Err(error) = numbers.wait_sent(BETWEEN, patience) {
            panic!(
                "{error:#}: {} sent, {} arrived",
                numbers.sent(),
                arrivals.count()
            );
        }
    };
    let goal = packets();
    let mut migrations = 0;
    while numbers.sent() < goal {
        // Half of one real's slots and more change their real: its flows are exceptions from now on, whose
        // real only the flow table knows.
        let weight = if migrations % 4 == 0 { 20 } else { 100 };
        let address = &reals[migrations % reals.len()].0;
        agent
            .ctl(&format!("set-real {VIP} {address} --weight {weight}"))
            .unwrap();
        under_load();
        let status = agent.ctl_json("status").unwrap();
        assert!(status["unsettled_slots"].as_u64() > Some(0), "{status:#}");
        agent.stop().unwrap();
        migrate_back(&agent);
        under_load();
        agent.run().unwrap();
        migrations += 2;
        let status = agent.ctl_json("status").unwrap();
        assert_eq!(status["adopted"], true, "{status:#}");
        assert_eq!(status["layout"], LAYOUT_VERSION, "{status:#}");
        under_load();
    }

    let sent = numbers.stop().unwrap();
    let _ = wait_for("the last numbers", PATIENCE, || {
        Ok((arrivals.count() >= sent).then_some(()))
    });
    let mut times: BTreeMap<u64, u32> = (0..sent).map(|number| (number, 0)).collect();
    let mut reals_of: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for (sink, arrival) in arrivals.all() {
        *times.entry(arrival.number).or_default() += 1;
        reals_of
            .entry(arrival.source_port)
            .or_default()
            .insert(sink);
    }
    let lost = times.values().filter(|times| **times == 0).count();
    let doubled = times.values().filter(|times| **times > 1).count();
    let moved = reals_of.values().filter(|reals| reals.len() > 1).count();
    println!(
        "{sent} packets of {} flows over {migrations} migrations: {lost} lost, {doubled} doubled, {moved} flows moved",
        reals_of.len()
    );
    assert_eq!((lost, doubled, moved), (0, 0, 0), "of {sent}");
    assert!(reals_of.len() > usize::from(FLOWS));
    // The counters were kept: there is one packet for each.
    let stats = agent.ctl_json(&format!("stats {VIP}")).unwrap();
    assert_eq!(stats["vips"][0]["packets"], sent, "{stats:#}");
}
