//! The table of VIPs and their reals.

use std::{collections::HashMap, time::Duration};

use comfy_table::Table;

use super::{
    stats::{Stats, Vip},
    table::{percent, short, table},
    why::Why,
};

/// What a newcomer asks about the table.
pub const LEGEND: &str = "share: part of the ring, and so of new connections; wanted: what steering would give \
    without limits; load: of the host's own CPU;\nclients: as the broker itself \
    counts, of both VIPs; packets and bytes of clients; the reals answer them directly; \
    ~: estimated from opened and closed connections";

/// Counters of one VIP or real a moment ago: packets, bytes, opened.
type Before = (u64, u64, u64);

/// What is said of a real besides figures: what it is called, and what is being done to it.
pub type Said = (String, Option<&'static str>);

/// Makes tables and remembers the last counters, to tell rates.
#[derive(Default)]
pub struct Reals(HashMap<(String, String), Before>);

impl Reals {
    /// The table; `passed`: since the last one. `said` tells of an address.
    pub fn table(
        &mut self,
        stats: &Stats,
        whys: &[Why],
        said: impl Fn(&str) -> Said,
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
        // Those that are steered by load first.
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
                let (name, doing) = said(&real.address);
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
                    note(doing, why),
                ]);
            }
        }
        table
    }

    fn rates(
        &mut self,
        (vip, real): (&str, &str),
        now: Before,
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

/// What is being done to a real, and what limits it.
fn note(doing: Option<&str>, why: Option<&Why>) -> String {
    let doing = doing.map(|doing| format!("{}!", doing.to_uppercase()));
    let limit = why
        .map(|why| why.limit.clone())
        .filter(|limit| !limit.is_empty() && limit != "nothing");
    let both: Vec<String> = doing.into_iter().chain(limit).collect();
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
    fn a_note_says_what_is_done_and_what_limits() {
        let why = |limit: &str| Why {
            limit: limit.to_owned(),
            ..Why::default()
        };
        assert_eq!(note(None, None), "");
        assert_eq!(note(None, Some(&why("nothing"))), "");
        assert_eq!(
            note(Some("frozen"), Some(&why("not healthy"))),
            "FROZEN! not healthy"
        );
    }
}
