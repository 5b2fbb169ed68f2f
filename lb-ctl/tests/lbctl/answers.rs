//! Output in the forms that programs rely on.

use lb_proto::v1;
use serde_json::json;

use crate::{
    agent::{Agent, Received},
    fixtures::vip_id,
    run::{Run, run, words},
};

fn ask(agent: &Agent, arguments: &str) -> Run {
    run(&agent.endpoint, &words(arguments))
}

fn vip() -> serde_json::Value {
    json!({
        "vip": "10.0.0.1:80/tcp",
        "forward": "ipip",
        "ring": "rendezvous",
        "flow_limits": null, "hash": "flow", "quic_lb": [], "server_ids": [], "source": null, "source_rules": [],
        "track": "exceptions",
        "window": "1h30m",
        "slots": 4096,
        "check": "tcp interval=2s",
        "on_down": "reset",
        "when_empty": "drop",
        "load": [],
        "steering": null,
        "shed": "webhook port=8080",
        "description": "the shop", "owner": "file", "revision": 17,
        "reals": [{
            "address": "10.1.0.2",
            "weight": 100,
            "effective_weight": 100,
            "state": "active",
            "share": 0.25,
            "flows": 12,
            "flows_exact": true,
            "drained": false, "owner": "api",
        }],
    })
}

#[test]
fn list() {
    let agent = Agent::start();
    for arguments in [
        "-o json list",
        "list -o json",
        "list 10.0.0.1:80/tcp --output json",
    ] {
        assert_eq!(ask(&agent, arguments).json(), json!([vip()]), "{arguments}");
    }
    assert_eq!(
        agent.received(),
        [None, None, Some(vip_id())].map(|id| Received::List(v1::ListVipsRequest { id }))
    );
    let table = ask(&agent, "list").stdout;
    let rows: Vec<Vec<&str>> = table.lines().map(words).collect();
    assert_eq!(
        rows,
        [
            words("VIP FORWARD RING TRACK WINDOW REAL WEIGHT STATE SHARE FLOWS OWNER DESCRIPTION"),
            words(
                "10.0.0.1:80/tcp ipip rendezvous exceptions 1h30m 10.1.0.2 100 active 25.00 % 12 file, real api the shop"
            ),
        ]
    );
}

#[test]
fn why_all_reals_are_as_they_are() {
    let agent = Agent::start();
    let why = ask(&agent, "-o json why").json();
    assert_eq!(why[0]["real"]["address"], "10.1.0.2");
    assert_eq!(
        agent.received(),
        [Received::Explain(v1::ExplainRequest::default())]
    );
}

#[test]
fn why_a_real_is_as_it_is() {
    let agent = Agent::start();
    let why = ask(&agent, "-o json why 10.1.0.2 10.0.0.1:80/tcp").json();
    assert_eq!(why[0]["vip"], "10.0.0.1:80/tcp");
    assert_eq!(why[0]["real"]["weight"], 100);
    assert_eq!(why[0]["probe"]["latency"], 0.25);
    assert_eq!(why[0]["readings"][0]["value"], 0.5);
    assert_eq!(why[0]["capacity"], 80.0);
    assert_eq!(
        agent.received(),
        [Received::Explain(v1::ExplainRequest {
            vip: Some(vip_id()),
            address: "10.1.0.2".to_owned(),
        })]
    );
    let text = ask(&agent, "why 10.1.0.2").stdout;
    for expected in [
        "100 wanted by the operator, 100 effective, 25.00 % of the ring",
        "healthy: connected",
        "took 250.0 ms",
        "utilisation 50.00 % from host",
        "trust        25.00 %: its utilisation stays the same",
        "nothing",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let wide = ask(&agent, "-o wide list").stdout;
    let rows: Vec<Vec<&str>> = wide.lines().map(words).collect();
    assert_eq!(
        rows[1],
        words(
            "10.0.0.1:80/tcp 10.1.0.2 active - 100 100 25.00 % 12 50.00 % 80.0 connected nothing"
        )
    );
}

#[test]
fn load_is_printed_as_it_was_read() {
    let agent = Agent::start();
    let load = ask(&agent, "-o json load --real 10.1.0.2").json();
    assert_eq!(
        load,
        json!([{
            "vip": "10.0.0.1:80/tcp",
            "address": "10.1.0.2",
            "readings": [{
                "quantity": "utilisation",
                "value": 0.5,
                "unit": "fraction",
                "age": null,
                "source": "host",
                "problem": "",
            }],
        }])
    );
    let text = ask(&agent, "load").stdout;
    assert!(text.contains("50.00 %"), "{text}");
}

#[test]
fn yaml_says_the_same_as_json() {
    let agent = Agent::start();
    for verb in ["list", "stats", "flows", "status", "ring 10.0.0.1:80/tcp"] {
        let yaml = ask(&agent, &format!("{verb} -o yaml"));
        assert_eq!(yaml.status, Some(0), "{yaml:?}");
        let yaml: serde_json::Value = serde_yaml_ng::from_str(&yaml.stdout).unwrap();
        assert_eq!(
            yaml,
            ask(&agent, &format!("{verb} -o json")).json(),
            "{verb}"
        );
    }
}

#[test]
fn stats() {
    let agent = Agent::start();
    let run = ask(&agent, "stats 10.0.0.1:80/tcp -o json");
    assert_eq!(
        agent.received(),
        [Received::Stats(v1::GetStatsRequest { id: Some(vip_id()) })]
    );
    assert_eq!(
        run.json(),
        json!({
            "time": "1970-01-01T00:01:40Z",
            "vips": [{
                "vip": "10.0.0.1:80/tcp",
                "packets": 100_000,
                "bytes": 10_000_000,
                "opened": 7,
                "closed": 6,
                "dropped_packets": 3,
                "dropped_bytes": 180,
                "slots": { "settled": 4_000, "in_window": 90, "exceptions": 6 },
                "table_hits": 12_500,
                "table_misses": 12_500,
                "named": 50,
                "named_unknown": 2,
                "table_share": 25_000.0 / 100_003.0,
                "reals": [{
                    "address": "10.1.0.2",
                    "weight": 100,
                    "effective_weight": 50,
                    "state": "draining",
                    "share": 0.5,
                    "flows": 1,
                    "flows_exact": false,
                    "packets": 100_000,
                    "bytes": 10_000_000,
                    "opened": 7,
                    "closed": 6,
                    "signs": {
                        "opened": 40,
                        "repeated_syns": 2,
                        "resets": 1,
                        "lives": [0, 0, 3],
                        "median_life": 0.003_145_728,
                    },
                }],
            }],
            "interfaces": [{
                "name": "eth0",
                "frames": 100_005,
                "reasons": [
                    { "reason": "forwarded_tx", "verdict": "tx", "frames": 100_000 },
                    { "reason": "not_vip", "verdict": "pass", "frames": 5 },
                ],
            }],
            "flow_table": {
                "capacity": 1_048_576,
                "used": 10,
                "inserted": 11,
                "provisional": 3,
                "evicted": 1,
                "evicted_provisional": 1,
                "evicted_confirmed": 0,
                "refused": 4,
                "hits": 20,
                "misses": 2,
            },
        })
    );
    let table = ask(&agent, "stats").stdout;
    assert!(
        table.contains("flow table: 10 of 1048576 entries"),
        "{table}"
    );
    assert!(table.contains("~1"), "an estimate is marked: {table}");
    for words in ["97.66 %", "2.20 %", "0.15 %", "25.00 %"] {
        assert!(table.contains(words), "no {words}: {table}");
    }
    assert!(!table.contains("SAMPLED"), "{table}");
    let wide = ask(&agent, "-o wide stats").stdout;
    let rows: Vec<Vec<&str>> = wide.lines().map(words).collect();
    assert!(
        rows[0].ends_with(&words("DROPPED SAMPLED REPEATED SYNS RESETS MEDIAN LIFE")),
        "{wide}"
    );
    assert!(rows[2].ends_with(&words("7 6 40 2 1 3 ms")), "{wide}");
}

#[test]
fn flows() {
    let agent = Agent::start();
    assert_eq!(
        ask(&agent, "flows -o json").json(),
        json!([{
            "vip": "10.0.0.1:80/tcp",
            "address": "10.1.0.2",
            "flows": 12,
            "exact": false,
            "entries": 4,
        }])
    );
    assert_eq!(
        agent.received(),
        [Received::Flows(v1::ListFlowsRequest { id: None })]
    );
}

#[test]
fn ring() {
    let agent = Agent::start();
    let run = ask(
        &agent,
        "ring 10.0.0.1:80/tcp --what-if 10.1.0.2=110 10.1.0.9=5 -o json",
    );
    assert_eq!(
        run.json(),
        json!({
            "vip": "10.0.0.1:80/tcp",
            "algorithm": "rendezvous",
            "slots": 65_536,
            "checksum": "5eed",
            "moved": 0.0015,
            "reals": [{ "address": "10.1.0.2", "weight": 100, "share": 0.015_625 }],
        })
    );
    let what_if = [("10.1.0.2", 110), ("10.1.0.9", 5)].map(|(address, weight)| v1::WhatIf {
        address: address.to_owned(),
        weight,
    });
    assert_eq!(
        agent.received(),
        [Received::Ring(v1::GetRingRequest {
            id: Some(vip_id()),
            what_if: what_if.to_vec()
        })]
    );
}

#[test]
fn status() {
    let agent = Agent::start();
    assert_eq!(
        ask(&agent, "status -o json").json(),
        json!({
            "version": "0.1.0",
            "started": "1970-01-01T00:01:40Z",
            "interfaces": [{
                "name": "eth0",
                "index": 2,
                "xdp_mode": "generic",
                "attached": true,
                "warning": "the driver has no native XDP",
            }],
            "vips": 1,
            "reals": 2,
            "slots": 4096,
            "unsettled_slots": 3,
            "slot_states": { "settled": 4_093, "in_window": 1, "exceptions": 2 },
            "tables": [{ "name": "flows", "used": 10, "capacity": 1024, "bytes": 16384 }],
            "kernel_memory": 5_242_880,
            "layout": 1,
            "generation": 4,
            "adopted": true,
            "limits": [{ "name": "calls", "used": 3, "limit": 1024, "refused": 5 }],
            "warnings": ["a table is nearly full"],
        })
    );
    let table = ask(&agent, "status").stdout;
    let warnings: Vec<&str> = table.lines().take(2).collect();
    assert_eq!(
        warnings,
        [
            "WARNING: a table is nearly full",
            "WARNING: eth0: the driver has no native XDP"
        ]
    );
}

#[test]
fn completions_and_manual_need_no_agent() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = run("unix:/nowhere", &["completions", shell]);
        assert_eq!(run.status, Some(0));
        assert!(run.stdout.contains("add-vip"), "{shell}: {run:?}");
    }
    assert!(
        run("unix:/nowhere", &["man"])
            .stdout
            .contains(".TH lbctl 1")
    );
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    let run = run("unix:/nowhere", &["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(run.status, Some(0), "{run:?}");
    for page in ["lbctl.1", "lbctl-add-vip.1", "lbctl-simulate.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}
