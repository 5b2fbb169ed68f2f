//! `lbctl watch` and `lbctl stats --watch`. The agent of these tests ends its streams, which `lbctl` reports as a failure,
//! because the streams should be endless.

use lb_proto::v1;
use serde_json::json;

use crate::{
    agent::{Agent, Received},
    run::{run, words},
};

#[test]
fn watch_prints_an_event_a_line() {
    let agent = Agent::start();
    let run = run(&agent.endpoint, &words("watch -o json"));
    assert_eq!(run.status, Some(1), "{run:?}");
    assert!(
        run.stderr
            .starts_with("lbctl: cannot watch all VIPs: the agent ended the stream"),
        "{run:?}"
    );
    assert_eq!(
        agent.received(),
        [Received::Watch(v1::WatchRequest::default())]
    );
    let real = json!({
        "address": "10.1.0.2",
        "weight": 100,
        "effective_weight": 100,
        "state": "active",
        "share": 0.25,
        "flows": 12,
        "flows_exact": true,
        "drained": false, "owner": "api",
    });
    let time = "1970-01-01T00:01:40Z";
    let vip = "10.0.0.1:80/tcp";
    assert_eq!(
        run.json_lines(),
        [
            json!({
                        "time": time,
                        "event": "snapshot",
                        "cause": "api", "intent_revision": 17,
                        "vip": vip,
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
                        "reals": [real],
                    }),
            json!({ "time": time, "event": "snapshot_end", "cause": "api", "intent_revision": 17 }),
            json!({ "time": time, "event": "real_changed", "cause": "api", "intent_revision": 17, "vip": vip, "real": real }),
            json!({ "time": time, "event": "vip_deleted", "cause": "api", "intent_revision": 17, "vip": vip }),
        ]
    );
}

#[test]
fn watch_speaks_yaml_and_plain_text_too() {
    use serde::Deserialize as _;
    let agent = Agent::start();
    let yaml = run(&agent.endpoint, &words("watch -o yaml")).stdout;
    let events: Vec<String> = serde_yaml_ng::Deserializer::from_str(&yaml)
        .map(|document| serde_json::Value::deserialize(document).unwrap()["event"].to_string())
        .collect();
    assert_eq!(
        events,
        [
            "\"snapshot\"",
            "\"snapshot_end\"",
            "\"real_changed\"",
            "\"vip_deleted\""
        ]
    );
    let text = run(&agent.endpoint, &words("watch")).stdout;
    assert_eq!(
        text.lines().nth(2).unwrap(),
        "1970-01-01T00:01:40Z real_changed VIP 10.0.0.1:80/tcp real 10.1.0.2: weight 100, effective 100, \
         active, 25.00 % of the ring (api)"
    );
}

#[test]
fn stats_are_printed_again_and_again() {
    let agent = Agent::start();
    let run_json = run(
        &agent.endpoint,
        &words("stats --watch --interval 250ms -o json"),
    );
    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 250_000_000,
    });
    assert_eq!(
        agent.received(),
        [Received::WatchStats(v1::WatchStatsRequest {
            id: None,
            interval
        })]
    );
    let packets: Vec<serde_json::Value> = run_json
        .json_lines()
        .iter()
        .map(|line| line["vips"][0]["packets"].clone())
        .collect();
    assert_eq!(packets, [100_000, 102_000]);
    // The table has rates: 2,000 packets in 2 seconds.
    let table = run(&agent.endpoint, &words("stats --watch")).stdout;
    let row: Vec<&str> = table
        .lines()
        .find(|line| line.contains("10.1.0.2"))
        .map(words)
        .unwrap();
    assert_eq!(row, words("10.1.0.2 50 50.00 % ~1 1.0 k 100.0 k 0 0"));
}
