//! Floods of packets with forged sources break no connection and keep no client out.
//!
//! `LB_FLOOD_SECONDS` (default 12 for each kind) and `LB_FLOOD_RATE` (packets a second, default 40,000) make the floods
//! longer and larger; silent connections then rest for as much longer.

use std::{
    fs,
    time::{Duration, Instant},
};

use lb_tests::{
    AgentOptions,
    client::{Connections, Flood, FloodKind, FloodPlan, Load, LoadReport, http_load},
    wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, endless, serve, target};

/// Every flow is tracked.
const TRACKED: &str = HTTP_V4;
/// In its first window when the flood begins.
const FRESH: &str = HTTP_V6;
/// One of its reals is drained before the flood begins.
const DRAINED: &str = "192.0.2.30:80/tcp";
/// Connections of each kind to each VIP.
const CONNECTIONS: usize = 25;
/// Small enough to be full many times over.
const FLOW_ENTRIES: u32 = 16_384;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Connections that are in use all the time, and those that are silent most of it.
struct Established {
    vip: &'static str,
    loads: [Load; 2],
}

impl Established {
    fn new(testbed: &Testbed, vip: &'static str, silence: Duration) -> Established {
        let loads = [Duration::from_millis(100), silence].map(|pause| {
            let plan = endless(vip, Connections::Kept, CONNECTIONS, pause);
            http_load(&testbed.client, plan)
        });
        for load in &loads {
            load.wait_requests(CONNECTIONS as u64, PATIENCE).unwrap();
        }
        Established { vip, loads }
    }

    /// Waits until a request that began after this moment was answered on each connection.
    fn wait_used_since(&self, moment: Instant) {
        let patience = PATIENCE + 2 * moment.saturating_duration_since(Instant::now());
        for load in &self.loads {
            wait_for("all connections to be used", patience, || {
                Ok((load.answered_since(moment) == CONNECTIONS).then_some(()))
            })
            .unwrap();
        }
    }

    fn assert_whole(self, when: &str) {
        for (load, kind) in self.loads.into_iter().zip(["busy", "silent"]) {
            let report = load.stop().unwrap();
            let what = format!("{kind} connections to {}, {when}: {report:?}", self.vip);
            assert_eq!(report.failed, 0, "{what}");
            assert_eq!(report.connections, CONNECTIONS as u64, "{what}");
        }
    }
}

fn gateway(testbed: &Testbed) -> [u8; 6] {
    let link = testbed.network.balancer.sh("ip -o link show eth0").unwrap();
    let mut words = link.split_whitespace();
    let address = words
        .by_ref()
        .skip_while(|word| *word != "link/ether")
        .nth(1);
    let octets: Vec<u8> = address
        .unwrap()
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

fn flow_table(testbed: &Testbed, counter: &str) -> u64 {
    let stats = testbed.agent.ctl_json("stats").unwrap();
    stats["flow_table"][counter].as_u64().unwrap()
}

fn warnings(testbed: &Testbed) -> Vec<String> {
    let status = testbed.agent.ctl_json("status").unwrap();
    let warnings = status["warnings"].as_array().unwrap();
    warnings
        .iter()
        .map(|warning| warning.as_str().unwrap().to_owned())
        .collect()
}

pub fn forged_packets_break_no_connection() {
    let seconds = setting("LB_FLOOD_SECONDS", 12);
    let rate = setting("LB_FLOOD_RATE", 40_000);
    // A connection is silent for two thirds of its VIP's window.
    let window = format!("--window {seconds}s");
    let silence = Duration::from_secs(seconds) * 2 / 3;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    fs::write(&file, format!("flow_entries = {FLOW_ENTRIES}\n")).unwrap();
    let options = AgentOptions {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..AgentOptions::default()
    };
    let testbed = Testbed::new(3, &[TRACKED, FRESH, DRAINED], options).unwrap();
    let attacker = testbed.network.client().unwrap();
    let plan = |kinds: &[FloodKind]| FloodPlan {
        targets: [TRACKED, FRESH, DRAINED].map(target).to_vec(),
        kinds: kinds.to_vec(),
        interface: "eth0".to_owned(),
        gateway: gateway(&testbed),
        per_second: rate,
    };
    let drained = testbed.backends[0].address();
    let move_weights = |weight: u16| {
        for vip in [TRACKED, FRESH] {
            testbed
                .agent
                .ctl(&format!("set-real {vip} {drained} --weight {weight}"))
                .unwrap();
        }
    };

    let track_all = format!("{window} --track all");
    serve(&testbed, TRACKED, &track_all, false, &[100]);
    serve(&testbed, DRAINED, &window, false, &[100]);
    let tracked = Established::new(&testbed, TRACKED, silence);
    let held = Established::new(&testbed, DRAINED, silence);
    serve(&testbed, FRESH, &window, false, &[100]);
    let fresh = Established::new(&testbed, FRESH, silence);
    testbed
        .agent
        .ctl(&format!("drain {DRAINED} {drained}"))
        .unwrap();

    let mut sent = Vec::new();
    let mut newcomers: Vec<LoadReport> = Vec::new();
    for (kinds, weight) in [
        (&[FloodKind::Syn][..], 10),
        (&[FloodKind::Ack, FloodKind::Syn], 1_000),
    ] {
        let before = flow_table(&testbed, "evicted_provisional");
        let flood = Flood::start(&attacker, plan(kinds));
        let new = [TRACKED, FRESH].map(|vip| {
            let pause = Duration::from_millis(20);
            http_load(&testbed.client, endless(vip, Connections::New, 2, pause))
        });
        wait_for("entries to be evicted", PATIENCE, || {
            let evicted = flow_table(&testbed, "evicted_provisional");
            Ok((evicted >= before + u64::from(FLOW_ENTRIES)).then_some(()))
        })
        .unwrap();
        // Now the flow table is all that knows who serves whom.
        move_weights(weight);
        wait_for("a warning", PATIENCE, || {
            let warnings = warnings(&testbed);
            let flooded = warnings.iter().find(|warning| warning.contains("flood"));
            Ok(flooded.filter(|warning| warning.contains("/tcp")).map(drop))
        })
        .unwrap();
        // All windows of before this flood pass, and every connection is used again.
        let over = Instant::now() + Duration::from_secs(seconds + 1);
        for established in [&tracked, &held, &fresh] {
            established.wait_used_since(over);
        }
        sent.push(flood.stop().unwrap());
        newcomers.extend(new.map(|load| load.stop().unwrap()));
    }

    let stats = testbed.agent.ctl_json("stats").unwrap();
    println!("{sent:?} packets, {:#}", stats["flow_table"]);
    assert_eq!(flow_table(&testbed, "evicted_confirmed"), 0);
    assert_eq!(flow_table(&testbed, "refused"), 0);
    wait_for("the warning to end", PATIENCE, || {
        Ok(warnings(&testbed).is_empty().then_some(()))
    })
    .unwrap();
    for established in [tracked, held, fresh] {
        established.assert_whole("after the floods");
    }
    for report in newcomers {
        let (failed, requests) = (report.failed, report.requests);
        assert!(requests > 0 && failed * 1_000 <= requests, "{report:?}");
    }
}
