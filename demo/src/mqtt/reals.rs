//! The table of VIPs and their reals, with rates since the last picture.

use std::{collections::HashMap, time::Duration};

use comfy_table::Table;

use super::why::Why;
use crate::{
    stats::{Stats, Vip},
    table::{percent, short, table},
};

/// Explains the columns.
pub const LEGEND: &str = "share: part of the ring, and so of new connections; wanted: the share that steering would \
    give without limits; load: use of the host's CPU limit;\nclients: connections that the broker itself counts, \
    over both VIPs; packets and bytes: from clients, since reals answer directly; ~: estimated from opened and \
    closed connections";

/// The last counters of a VIP or real: packets, bytes, opened connections.
type Counters = (u64, u64, u64);

/// The name of a real, and the fault that it suffers.
pub type Label = (String, Option<&'static str>);

/// Makes tables, and keeps the last counters for the rates.
#[derive(Default)]
pub struct Reals(HashMap<(String, String), Counters>);

impl Reals {
    /// Returns the table. `passed` is the time since the last one, `label` returns the label of an address.
    pub fn table(
        &mut self,
        stats: &Stats,
        whys: &[Why],
        label: impl Fn(&str) -> Label,
        passed: Option<Duration>,
    ) -> Table {
        let mut table = table(
            &[
                "VIP, real",
                "weight",
                "wanted",
                "share",
                "load",
                "clients",
                "live flows",
                "new/s",
                "packets/s",
                "bytes/s",
                "state",
                "",
            ],
            2,
        );
        // The VIPs of the brokers, whose weights move, come first.
        let mut vips: Vec<&Vip> = stats.vips.iter().collect();
        vips.sort_by_key(|vip| !vip.vip.contains(":1883/"));
        for vip in vips {
            let rates = self.rates((&vip.vip, ""), (vip.packets, vip.bytes, vip.opened), passed);
            let live: u64 = vip.reals.iter().map(|real| real.flows).sum();
            let weight: u32 = vip.reals.iter().map(|real| real.effective_weight).sum();
            let exact = vip.reals.iter().all(|real| real.flows_exact);
            let [packets, bytes, opened] = rates;
            table.add_row([
                vip.vip.clone(),
                weight.to_string(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                flows(live, exact),
                opened,
                packets,
                bytes,
                dropped(vip),
            ]);
            for real in &vip.reals {
                let [packets, bytes, opened] = self.rates(
                    (&vip.vip, &real.address),
                    (real.packets, real.bytes, real.opened),
                    passed,
                );
                let why = whys
                    .iter()
                    .find(|why| why.vip == vip.vip && why.real.address == real.address);
                let (name, fault) = label(&real.address);
                let part = |part: Option<f64>| part.map_or(String::new(), percent);
                table.add_row([
                    format!("  {} {name}", real.address),
                    format!("{} → {}", real.weight, real.effective_weight),
                    part(why.and_then(|why| why.wanted_share)),
                    percent(real.share),
                    part(why.and_then(|why| why.utilisation)),
                    why.and_then(Why::clients)
                        .map_or(String::new(), |clients| clients.to_string()),
                    flows(real.flows, real.flows_exact),
                    opened,
                    packets,
                    bytes,
                    real.state.clone(),
                    note(fault, why),
                ]);
            }
        }
        table
    }

    fn rates(
        &mut self,
        (vip, real): (&str, &str),
        now: Counters,
        passed: Option<Duration>,
    ) -> [String; 3] {
        let before = self.0.insert((vip.to_owned(), real.to_owned()), now);
        let (Some(before), Some(passed)) = (before, passed) else {
            return [const { String::new() }; 3];
        };
        let rate =
            |now: u64, before: u64| short(now.saturating_sub(before) as f64 / passed.as_secs_f64());
        [
            rate(now.0, before.0),
            rate(now.1, before.1),
            rate(now.2, before.2),
        ]
    }
}

/// Describes the fault of a real and what limits its weight.
fn note(fault: Option<&str>, why: Option<&Why>) -> String {
    let fault = fault.map(|fault| format!("({fault})"));
    let limit = why
        .map(|why| why.limit.clone())
        .filter(|limit| !limit.is_empty() && limit != "nothing");
    let both: Vec<String> = fault.into_iter().chain(limit).collect();
    both.join(" ")
}

fn flows(count: u64, exact: bool) -> String {
    if exact {
        count.to_string()
    } else {
        format!("~{count}")
    }
}

fn dropped(vip: &Vip) -> String {
    if vip.dropped_packets == 0 {
        String::new()
    } else {
        format!("{} dropped", vip.dropped_packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_the_fault_and_the_limit() {
        let why = |limit: &str| Why {
            limit: limit.to_owned(),
            ..Why::default()
        };
        assert_eq!(note(None, None), "");
        assert_eq!(note(None, Some(&why("nothing"))), "");
        assert_eq!(
            note(Some("frozen"), Some(&why("not healthy"))),
            "(frozen) not healthy"
        );
    }
}
