//! Rates per second between two readings of the counters.

use std::{collections::HashMap, time::Duration};

use lb_proto::v1;

use super::{
    stats::{Counters, table_share},
    table,
};
use crate::names;

/// Lays out the rates of each VIP and real as a table, which ends with a newline.
#[must_use]
pub fn table(before: &v1::Stats, now: &v1::Stats) -> String {
    let seconds = seconds(before, now);
    let old: HashMap<String, &v1::VipStats> = before
        .vips
        .iter()
        .map(|vip| (names::vip(vip.id.as_ref()), vip))
        .collect();
    let mut rows = Vec::new();
    for vip in &now.vips {
        let name = names::vip(vip.id.as_ref());
        let old = old.get(&name).copied();
        let old_reals: HashMap<&str, Counters> = old
            .iter()
            .flat_map(|vip| &vip.reals)
            .map(|real| (real.address.as_str(), real.counters.into()))
            .collect();
        // Counters of an object that is new since the last reading started at zero.
        let counters_before = old.and_then(|vip| vip.counters).into();
        let dropped = vip
            .dropped_packets
            .saturating_sub(old.map_or(0, |vip| vip.dropped_packets));
        let flows = vip.reals.iter().map(|real| real.flows).sum();
        let exact = vip.reals.iter().all(|real| real.flows_exact);
        let mut row = vec![
            name,
            String::new(),
            String::new(),
            table::flows(flows, exact),
        ];
        row.extend(per_second(counters_before, vip.counters.into(), seconds));
        row.push(table::rate(dropped as f64 / seconds));
        row.push(table::percent(table_share(vip, old)));
        rows.push(row);
        for real in &vip.reals {
            let before = old_reals
                .get(real.address.as_str())
                .copied()
                .unwrap_or_default();
            let mut row = vec![
                format!("  {}", real.address),
                real.effective_weight.to_string(),
                table::percent(real.share),
                table::flows(real.flows, real.flows_exact),
            ];
            row.extend(per_second(before, real.counters.into(), seconds));
            row.extend([String::new(), String::new()]);
            rows.push(row);
        }
    }
    let time = now.time.map(|time| time.to_string()).unwrap_or_default();
    let columns = [
        ("VIP, REAL", false),
        ("WEIGHT", true),
        ("SHARE", true),
        ("FLOWS", true),
        ("PACKETS/S", true),
        ("BYTES/S", true),
        ("OPENED/S", true),
        ("CLOSED/S", true),
        ("DROPPED/S", true),
        ("TABLE", true),
    ];
    format!("{time}\n{}", table::layout(&columns, rows))
}

/// Returns the seconds between two readings by the agent's clock, or 1 if these have no time.
fn seconds(before: &v1::Stats, now: &v1::Stats) -> f64 {
    let at = |stats: &v1::Stats| {
        stats.time.map(|time| {
            let nanos = u32::try_from(time.nanos).unwrap_or(0);
            Duration::new(u64::try_from(time.seconds).unwrap_or(0), nanos)
        })
    };
    match (at(before), at(now)) {
        (Some(before), Some(now)) if now > before => (now - before).as_secs_f64(),
        _ => 1.0,
    }
}

/// Returns rates as text. A counter that has decreased was reset, so its rate is computed from zero.
fn per_second(before: Counters, now: Counters, seconds: f64) -> [String; 4] {
    [
        (before.packets, now.packets),
        (before.bytes, now.bytes),
        (before.opened, now.opened),
        (before.closed, now.closed),
    ]
    .map(|(before, now)| table::rate(now.saturating_sub(before) as f64 / seconds))
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn reading(seconds: i64, packets: u64) -> v1::Stats {
        let counters = Some(v1::Counters {
            packets,
            bytes: packets * 100,
            opened: packets / 10,
            closed: 0,
        });
        v1::Stats {
            time: Some(Timestamp { seconds, nanos: 0 }),
            vips: vec![v1::VipStats {
                id: Some(names::vip_id("10.0.0.1:80/tcp".parse().unwrap())),
                counters,
                dropped_packets: 0,
                dropped_bytes: 0,
                reals: vec![v1::RealStats {
                    address: "10.1.0.2".to_owned(),
                    counters,
                    weight: 100,
                    effective_weight: 100,
                    share: 1.0,
                    flows: 12,
                    flows_exact: false,
                    state: v1::RealState::Active.into(),
                    signs: None,
                }],
                slots: None,
                table_hits: packets / 4,
                table_misses: packets / 4,
                named: 0,
                named_unknown: 0,
            }],
            interfaces: vec![],
            flow_table: None,
        }
    }

    #[test]
    fn rates_are_per_second() {
        let text = table(&reading(100, 1_000), &reading(102, 21_000));
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], ["1970-01-01T00:01:42Z"]);
        assert_eq!(
            words[2],
            [
                "10.0.0.1:80/tcp",
                "~12",
                "10.0",
                "k",
                "1.0",
                "M",
                "1.0",
                "k",
                "0",
                "0",
                "50.00",
                "%"
            ]
        );
        assert_eq!(
            words[3],
            [
                "10.1.0.2", "100", "100.00", "%", "~12", "10.0", "k", "1.0", "M", "1.0", "k", "0"
            ]
        );
    }

    #[test]
    fn a_recreated_counter_is_no_negative_rate() {
        let text = table(&reading(100, 1_000), &reading(101, 10));
        let rates: Vec<&str> = text
            .lines()
            .nth(3)
            .unwrap()
            .split_whitespace()
            .skip(5)
            .collect();
        assert_eq!(rates, ["0", "0", "0", "0"], "{text}");
    }
}
