//! Counters, for `stats`.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::names;

/// What was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// IP packets.
    pub packets: u64,
    /// Bytes of these packets as received, without Ethernet and outer headers.
    pub bytes: u64,
    /// TCP: SYN packets. UDP: entries inserted into the flow table.
    pub opened: u64,
    /// TCP: FIN and RST packets of clients.
    pub closed: u64,
}

impl From<Option<v1::Counters>> for Counters {
    fn from(counters: Option<v1::Counters>) -> Self {
        let counters = counters.unwrap_or_default();
        Counters {
            packets: counters.packets,
            bytes: counters.bytes,
            opened: counters.opened,
            closed: counters.closed,
        }
    }
}

/// How a real serves its flows: totals over a sample of its TCP flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signs {
    /// Sampled flows that were opened.
    pub opened: u64,
    /// SYNs that repeat the one of a sampled flow: its client got no answer.
    pub repeated_syns: u64,
    /// Sampled flows that their client ended with a reset.
    pub resets: u64,
    /// Sampled flows that their client ended, by life: number i has those of less than 2^i units of 1.048576 ms.
    pub lives: Vec<u64>,
    /// About how long half of them lived at most, in seconds.
    pub median_life: Option<f64>,
}

impl From<&v1::Signs> for Signs {
    fn from(signs: &v1::Signs) -> Self {
        Signs {
            opened: signs.opened,
            repeated_syns: signs.repeated_syns,
            resets: signs.resets,
            lives: signs.lives.clone(),
            median_life: signs
                .median_life
                .and_then(|life| std::time::Duration::try_from(life).ok())
                .map(|life| life.as_secs_f64()),
        }
    }
}

/// Counters of a real of a VIP.
#[derive(Debug, PartialEq, Serialize)]
pub struct RealStats {
    /// Its address.
    pub address: String,
    /// The operator's weight.
    pub weight: u32,
    /// The weight that steering applies.
    pub effective_weight: u32,
    /// active, draining or unreachable.
    pub state: &'static str,
    /// Its share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// False if `flows` is an estimate.
    pub flows_exact: bool,
    /// What was forwarded to it.
    #[serde(flatten)]
    pub counters: Counters,
    /// How it serves its flows; nothing for UDP.
    pub signs: Option<Signs>,
}

/// The slots of rings by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SlotStates {
    /// No packet consults the flow table.
    pub settled: u64,
    /// The slot's real changed within the VIP's window: all packets do.
    pub in_window: u64,
    /// The window is over, and some flows are on other reals: packets that may be of these flows do.
    pub exceptions: u64,
}

impl SlotStates {
    /// Formats the share of one state's slots.
    #[must_use]
    pub fn percent(&self, slots: u64) -> String {
        let all = self.settled + self.in_window + self.exceptions;
        table::percent(slots as f64 / all.max(1) as f64)
    }
}

impl From<Option<v1::SlotStates>> for SlotStates {
    fn from(slots: Option<v1::SlotStates>) -> Self {
        let slots = slots.unwrap_or_default();
        SlotStates {
            settled: slots.settled,
            in_window: slots.in_window,
            exceptions: slots.exceptions,
        }
    }
}

/// Counters of a VIP.
#[derive(Debug, PartialEq, Serialize)]
pub struct VipStats {
    /// Its name.
    pub vip: String,
    /// What was forwarded, including to reals that were deleted.
    #[serde(flatten)]
    pub counters: Counters,
    /// Packets for it that were dropped.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// The slots of its ring.
    pub slots: SlotStates,
    /// Packets that consulted the flow table and found their flow.
    pub table_hits: u64,
    /// Packets that consulted the flow table and did not find their flow.
    pub table_misses: u64,
    /// Packets that went to the real that they name.
    pub named: u64,
    /// Packets that name a real that is not there or dead.
    pub named_unknown: u64,
    /// The share of its packets that consulted the flow table, 0 to 1.
    pub table_share: f64,
    /// The reals, in the agent's order.
    pub reals: Vec<RealStats>,
}

/// Frames with one reason.
#[derive(Debug, PartialEq, Serialize)]
pub struct ReasonCount {
    /// Its name.
    pub reason: String,
    /// pass, tx, redirect or drop.
    pub verdict: String,
    /// The number of frames.
    pub frames: u64,
}

/// Counters of an interface.
#[derive(Debug, PartialEq, Serialize)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Frames received: the sum over all reasons.
    pub frames: u64,
    /// Frames by reason.
    pub reasons: Vec<ReasonCount>,
}

/// Counters of the flow table.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowTable {
    /// Entries that there is room for.
    pub capacity: u64,
    /// Entries in use.
    pub used: u64,
    /// Entries inserted.
    pub inserted: u64,
    /// Entries in use of flows that sent one packet so far.
    pub provisional: u64,
    /// Live entries that were evicted.
    pub evicted: u64,
    /// Those of them that were provisional.
    pub evicted_provisional: u64,
    /// Those of them that a second packet had confirmed.
    pub evicted_confirmed: u64,
    /// Flows that got no entry.
    pub refused: u64,
    /// Look-ups that found an entry.
    pub hits: u64,
    /// Look-ups that found no entry.
    pub misses: u64,
}

/// What `stats` prints.
#[derive(Debug, PartialEq, Serialize)]
pub struct Stats {
    /// When the counters were read, RFC 3339.
    pub time: Option<String>,
    /// Counters by VIP.
    pub vips: Vec<VipStats>,
    /// Counters by interface.
    pub interfaces: Vec<InterfaceStats>,
    /// The flow table.
    pub flow_table: FlowTable,
}

impl From<&v1::Stats> for Stats {
    fn from(stats: &v1::Stats) -> Self {
        let flow_table = stats.flow_table.unwrap_or_default();
        Stats {
            time: stats.time.map(|time| time.to_string()),
            vips: stats.vips.iter().map(VipStats::from).collect(),
            interfaces: stats.interfaces.iter().map(InterfaceStats::from).collect(),
            flow_table: FlowTable {
                capacity: flow_table.capacity,
                used: flow_table.used,
                inserted: flow_table.inserted,
                provisional: flow_table.provisional,
                evicted: flow_table.evicted,
                evicted_provisional: flow_table.evicted_provisional,
                evicted_confirmed: flow_table.evicted_confirmed,
                refused: flow_table.refused,
                hits: flow_table.hits,
                misses: flow_table.misses,
            },
        }
    }
}

impl From<&v1::VipStats> for VipStats {
    fn from(vip: &v1::VipStats) -> Self {
        VipStats {
            vip: names::vip(vip.id.as_ref()),
            counters: vip.counters.into(),
            dropped_packets: vip.dropped_packets,
            dropped_bytes: vip.dropped_bytes,
            slots: vip.slots.into(),
            table_hits: vip.table_hits,
            table_misses: vip.table_misses,
            named: vip.named,
            named_unknown: vip.named_unknown,
            table_share: table_share(vip, None),
            reals: vip.reals.iter().map(RealStats::from).collect(),
        }
    }
}

/// The share of a VIP's packets that consulted the flow table, of all packets or of those since an earlier reading.
#[must_use]
pub fn table_share(vip: &v1::VipStats, before: Option<&v1::VipStats>) -> f64 {
    let packets = |vip: &v1::VipStats| {
        vip.dropped_packets + vip.counters.map_or(0, |counters| counters.packets)
    };
    let lookups = |vip: &v1::VipStats| vip.table_hits + vip.table_misses;
    let since = |count: &dyn Fn(&v1::VipStats) -> u64| {
        count(vip).saturating_sub(before.map_or(0, count)) as f64
    };
    // A packet may be counted in one of the two at the moment of reading.
    (since(&lookups) / since(&packets).max(1.0)).min(1.0)
}

impl From<&v1::RealStats> for RealStats {
    fn from(real: &v1::RealStats) -> Self {
        RealStats {
            address: real.address.clone(),
            weight: real.weight,
            effective_weight: real.effective_weight,
            state: names::state(real.state()),
            share: real.share,
            flows: real.flows,
            flows_exact: real.flows_exact,
            counters: real.counters.into(),
            signs: real.signs.as_ref().map(Signs::from),
        }
    }
}

impl From<&v1::InterfaceStats> for InterfaceStats {
    fn from(interface: &v1::InterfaceStats) -> Self {
        let reason = |count: &v1::ReasonCount| ReasonCount {
            reason: count.reason.clone(),
            verdict: count.verdict.clone(),
            frames: count.frames,
        };
        InterfaceStats {
            name: interface.name.clone(),
            frames: interface.reasons.iter().map(|count| count.frames).sum(),
            reasons: interface.reasons.iter().map(reason).collect(),
        }
    }
}

impl Human for Stats {
    fn human(&self) -> String {
        self.table(false)
    }
}

/// What `stats -o wide` prints: the same with the signs of each real.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Wide(pub Stats);

impl Human for Wide {
    fn human(&self) -> String {
        self.0.table(true)
    }
}

impl Stats {
    fn table(&self, wide: bool) -> String {
        let mut rows = Vec::new();
        for vip in &self.vips {
            let mut row_of_vip = row(
                &vip.vip,
                ["", "", "", ""].map(str::to_owned),
                vip.counters,
                vip.dropped_packets.to_string(),
            );
            if wide {
                row_of_vip.extend(["", "", "", ""].map(str::to_owned));
            }
            rows.push(row_of_vip);
            for real in &vip.reals {
                let facts = [
                    real.effective_weight.to_string(),
                    real.state.to_owned(),
                    table::percent(real.share),
                    table::flows(real.flows, real.flows_exact),
                ];
                let mut row = row(
                    &format!("  {}", real.address),
                    facts,
                    real.counters,
                    String::new(),
                );
                if wide {
                    row.extend(signs(real.signs.as_ref()));
                }
                rows.push(row);
            }
        }
        let mut columns = vec![
            ("VIP, REAL", false),
            ("WEIGHT", true),
            ("STATE", false),
            ("SHARE", true),
            ("FLOWS", true),
            ("PACKETS", true),
            ("BYTES", true),
            ("OPENED", true),
            ("CLOSED", true),
            ("DROPPED", true),
        ];
        if wide {
            columns.extend(SIGNS);
        }
        let mut text = table::layout(&columns, rows);
        text += "\n";
        text += &table::layout(
            &[
                ("VIP", false),
                ("SLOTS SETTLED", true),
                ("IN WINDOW", true),
                ("WITH EXCEPTIONS", true),
                ("TABLE HITS", true),
                ("MISSES", true),
                ("OF PACKETS", true),
            ],
            self.vips.iter().map(|vip| {
                vec![
                    vip.vip.clone(),
                    vip.slots.percent(vip.slots.settled),
                    vip.slots.percent(vip.slots.in_window),
                    vip.slots.percent(vip.slots.exceptions),
                    vip.table_hits.to_string(),
                    vip.table_misses.to_string(),
                    table::percent(vip.table_share),
                ]
            }),
        );
        let reasons = self.interfaces.iter().flat_map(|interface| {
            interface
                .reasons
                .iter()
                .filter(|count| count.frames > 0)
                .map(|count| {
                    vec![
                        interface.name.clone(),
                        count.reason.clone(),
                        count.verdict.clone(),
                        count.frames.to_string(),
                    ]
                })
        });
        text += "\n";
        text += &table::layout(
            &[
                ("INTERFACE", false),
                ("REASON", false),
                ("VERDICT", false),
                ("FRAMES", true),
            ],
            reasons,
        );
        let flows = &self.flow_table;
        text += &format!(
            "\nflow table: {} of {} entries ({} provisional), {} inserted, {} evicted ({} provisional, {} confirmed), \
             {} refused, {} hits, {} misses\n",
            flows.used,
            flows.capacity,
            flows.provisional,
            flows.inserted,
            flows.evicted,
            flows.evicted_provisional,
            flows.evicted_confirmed,
            flows.refused,
            flows.hits,
            flows.misses
        );
        text
    }
}

/// Columns of [`signs`].
const SIGNS: [table::Column; 4] = [
    ("SAMPLED", true),
    ("REPEATED SYNS", true),
    ("RESETS", true),
    ("MEDIAN LIFE", true),
];

fn signs(signs: Option<&Signs>) -> [String; 4] {
    let Some(signs) = signs else {
        return ["-"; 4].map(str::to_owned);
    };
    [
        signs.opened.to_string(),
        signs.repeated_syns.to_string(),
        signs.resets.to_string(),
        signs.median_life.map_or_else(|| "-".to_owned(), life),
    ]
}

/// A life, which is known to a factor of 1.5 only.
fn life(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", (seconds * 1_000.0).max(1.0))
    } else {
        format!("{seconds:.0} s")
    }
}

fn row(name: &str, facts: [String; 4], counters: Counters, dropped: String) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(facts);
    row.extend(
        [
            counters.packets,
            counters.bytes,
            counters.opened,
            counters.closed,
        ]
        .map(|n| n.to_string()),
    );
    row.push(dropped);
    row
}
