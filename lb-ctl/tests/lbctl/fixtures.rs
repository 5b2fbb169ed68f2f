//! Answers of the agent of these tests.

use lb_proto::v1;
use prost_types::{Duration, Timestamp, value::Kind};

pub fn vip_id() -> v1::VipId {
    v1::VipId {
        address: "10.0.0.1".to_owned(),
        port: 80,
        protocol: v1::Protocol::Tcp.into(),
        ..v1::VipId::default()
    }
}

pub fn real() -> v1::Real {
    v1::Real {
        address: "10.1.0.2".to_owned(),
        spec: Some(v1::RealSpec {
            weight: Some(100),
            drained: Some(false),
            ..v1::RealSpec::default()
        }),
        effective_weight: 100,
        state: v1::RealState::Active.into(),
        share: 0.25,
        flows: 12,
        flows_exact: true,
        owner: "api".to_owned(),
    }
}

/// Returns a component with one setting.
fn component(kind: &str, setting: &str, value: Kind) -> v1::Component {
    let value = prost_types::Value { kind: Some(value) };
    v1::Component {
        kind: kind.to_owned(),
        settings: Some(prost_types::Struct {
            fields: [(setting.to_owned(), value)].into(),
        }),
    }
}

pub fn vip() -> v1::Vip {
    v1::Vip {
        owner: "file".to_owned(),
        revision: 17,
        id: Some(vip_id()),
        spec: Some(v1::VipSpec {
            forward: Some(v1::Forward::Ipip.into()),
            ring: Some(v1::RingAlgorithm::Rendezvous.into()),
            hash: Some(v1::Hash::Flow.into()),
            track: Some(v1::Track::Exceptions.into()),
            window: Some(Duration {
                seconds: 5_400,
                nanos: 0,
            }),
            slots: Some(4_096),
            on_down: Some(v1::OnDown::Reset.into()),
            when_empty: Some("drop".to_owned()),
            check: Some(component(
                "tcp",
                "interval",
                Kind::StringValue("2s".to_owned()),
            )),
            shed: Some(component("webhook", "port", Kind::NumberValue(8_080.0))),
            description: Some("the shop".to_owned()),
            ..v1::VipSpec::default()
        }),
        reals: vec![real()],
    }
}

pub fn reading() -> v1::Reading {
    v1::Reading {
        quantity: "utilisation".to_owned(),
        value: Some(0.5),
        unit: "fraction".to_owned(),
        time: None,
        source: "host".to_owned(),
        problem: String::new(),
    }
}

pub fn readings() -> v1::ListReadingsResponse {
    v1::ListReadingsResponse {
        reals: vec![v1::RealReadings {
            vip: Some(vip_id()),
            address: "10.1.0.2".to_owned(),
            readings: vec![reading()],
        }],
    }
}

pub fn explanation() -> v1::ExplainResponse {
    v1::ExplainResponse {
        reals: vec![v1::Explanation {
            vip: Some(vip_id()),
            real: Some(real()),
            since: None,
            probe: Some(v1::ProbeResult {
                verdict: "healthy".to_owned(),
                reason: "connected".to_owned(),
                time: None,
                latency: Some(Duration {
                    seconds: 0,
                    nanos: 250_000_000,
                }),
            }),
            readings: vec![reading()],
            utilisation: Some(0.5),
            capacity: Some(80.0),
            wanted_share: Some(0.25),
            limit: "nothing".to_owned(),
            trust: Some(0.25),
            doubt: "its utilisation stays the same".to_owned(),
        }],
    }
}

pub fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

pub fn stats(seconds: i64) -> v1::Stats {
    let packets = seconds as u64 * 1_000;
    let counters = Some(v1::Counters {
        packets,
        bytes: packets * 100,
        opened: 7,
        closed: 6,
    });
    v1::Stats {
        time: time(seconds),
        vips: vec![v1::VipStats {
            id: Some(vip_id()),
            counters,
            dropped_packets: 3,
            dropped_bytes: 180,
            reals: vec![v1::RealStats {
                address: "10.1.0.2".to_owned(),
                counters,
                weight: 100,
                effective_weight: 50,
                share: 0.5,
                flows: 1,
                flows_exact: false,
                state: v1::RealState::Draining.into(),
                signs: Some(v1::Signs {
                    opened: 40,
                    repeated_syns: 2,
                    resets: 1,
                    lives: vec![0, 0, 3],
                    median_life: Some(Duration {
                        seconds: 0,
                        nanos: 3_145_728,
                    }),
                }),
            }],
            slots: Some(v1::SlotStates {
                settled: 4_000,
                in_window: 90,
                exceptions: 6,
            }),
            table_hits: packets / 8,
            table_misses: packets / 8,
            named: 50,
            named_unknown: 2,
        }],
        interfaces: vec![v1::InterfaceStats {
            decapsulated: 0,
            name: "eth0".to_owned(),
            reasons: [("forwarded_tx", "tx", packets), ("not_vip", "pass", 5)]
                .map(|(reason, verdict, frames)| v1::ReasonCount {
                    reason: reason.to_owned(),
                    verdict: verdict.to_owned(),
                    frames,
                })
                .to_vec(),
        }],
        flow_table: Some(v1::FlowTableStats {
            capacity: 1_048_576,
            used: 10,
            inserted: 11,
            evicted: 1,
            hits: 20,
            misses: 2,
            provisional: 3,
            evicted_provisional: 1,
            evicted_confirmed: 0,
            refused: 4,
        }),
    }
}

/// A plan with a change of each kind of object, one that is refused, and an object of another owner.
pub fn plan() -> v1::ChangePlan {
    let number = |value: f64| prost_types::Value {
        kind: Some(Kind::NumberValue(value)),
    };
    let table = |name: &str, value: prost_types::Value| prost_types::Struct {
        fields: [(name.to_owned(), value)].into(),
    };
    let change = |kind: &str, real: &str| v1::PlannedChange {
        kind: kind.to_owned(),
        vip: Some(vip_id()),
        real: real.to_owned(),
        ..v1::PlannedChange::default()
    };
    let text = |text: &str| prost_types::Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let null = prost_types::Value {
        kind: Some(Kind::NullValue(0)),
    };
    v1::ChangePlan {
        changes: vec![
            v1::PlannedChange {
                settings: Some(table("window", null)),
                before: Some(table("window", text("15m"))),
                ..change("update_vip", "")
            },
            v1::PlannedChange {
                settings: Some(table("weight", number(300.0))),
                before: Some(table("weight", number(100.0))),
                ..change("update_real", "10.1.0.2")
            },
            v1::PlannedChange {
                settings: Some(table("weight", number(7.0))),
                ..change("add_real", "10.1.0.4")
            },
            v1::PlannedChange {
                error: "there is no such real".to_owned(),
                code: tonic::Code::NotFound.into(),
                ..change("delete_real", "10.1.0.5")
            },
        ],
        left: vec![v1::LeftObject {
            vip: Some(vip_id()),
            real: "10.1.0.3".to_owned(),
            owner: "controller:web".to_owned(),
        }],
        moves: vec![v1::PlannedMove {
            vip: Some(vip_id()),
            moved: 0.25,
        }],
        at_next_start: vec!["interfaces".to_owned()],
        overridden: vec!["listen".to_owned()],
    }
}
