//! Where packets of a flow go, and why, for `trace`.

use lb_proto::v1;
use serde::Serialize;

use super::{
    Human,
    explanation::Explanation,
    readings::age,
    simulation::Simulation,
    stats::{RealStats, VipStats},
    table,
};
use crate::values::frame::TcpFlag;

/// What `trace` prints.
#[derive(Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The flow.
    pub flow: String,
    /// The packets that were traced.
    pub packets: Vec<PacketTrace>,
}

/// A packet of the flow.
#[derive(Debug, PartialEq, Serialize)]
pub struct PacketTrace {
    /// Flags of its TCP header; empty for UDP.
    pub flags: Vec<String>,
    /// What the program does with it.
    #[serde(flatten)]
    pub simulation: Simulation,
    /// The slot of the VIP's ring.
    pub slot: Option<Slot>,
    /// The entry that the flow table has of the flow.
    pub entry: Option<Entry>,
    /// How flows are tracked: exceptions or all.
    pub track: Option<String>,
    /// Counters of the VIP.
    pub vip_counters: Option<VipStats>,
    /// The state and the weight of the real, and why.
    pub real_state: Option<Explanation>,
    /// Counters of the real.
    pub real_counters: Option<RealStats>,
}

/// A slot of a ring.
#[derive(Debug, PartialEq, Serialize)]
pub struct Slot {
    /// Its number, from 0 on.
    pub number: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// The real of its new flows.
    pub real: Option<String>,
    /// settled, in_window or exceptions.
    pub state: String,
    /// in_window: the real of running flows without an entry.
    pub previous: Option<String>,
    /// in_window: seconds until the window ends at the latest.
    pub window_ends_in: Option<f64>,
    /// exceptions: the share of the slot's flows whose packets consult the flow table, 0 to 1.
    pub exceptions_share: Option<f64>,
    /// Seconds since it came into its window, or out of it.
    pub since: Option<f64>,
    /// Seconds since the ring was last changed, as far as the agent knows.
    pub ring_changed: Option<f64>,
}

/// An entry of the flow table.
#[derive(Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The real that it names.
    pub real: Option<String>,
    /// Seconds since the flow's last packet, to about a second.
    pub last_packet: Option<f64>,
    /// Whether a second packet has confirmed it.
    pub confirmed: bool,
    /// Whether its client has ended the flow.
    pub closing: bool,
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

impl From<&v1::SlotTrace> for Slot {
    fn from(slot: &v1::SlotTrace) -> Self {
        let in_window = slot.state == "in_window";
        let ends = slot.window_ends.and_then(|time| {
            let end = std::time::SystemTime::try_from(time).ok()?;
            let left = end.duration_since(std::time::SystemTime::now());
            Some(left.unwrap_or_default().as_secs_f64().round())
        });
        Slot {
            number: slot.number,
            slots: slot.slots,
            real: some(&slot.real),
            state: slot.state.clone(),
            previous: some(&slot.previous),
            window_ends_in: ends.filter(|_| in_window),
            exceptions_share: (slot.state == "exceptions").then_some(slot.exceptions_share),
            since: slot.since.and_then(age),
            ring_changed: slot.ring_changed.and_then(age),
        }
    }
}

impl From<&v1::EntryTrace> for Entry {
    fn from(entry: &v1::EntryTrace) -> Self {
        Entry {
            real: some(&entry.real),
            last_packet: entry.last_packet.and_then(age),
            confirmed: entry.confirmed,
            closing: entry.closing,
        }
    }
}

impl PacketTrace {
    /// The answer for a packet with these flags.
    #[must_use]
    pub fn new(flags: &[TcpFlag], trace: &v1::PacketTrace) -> Self {
        let simulation = trace.simulation.clone().unwrap_or_default();
        PacketTrace {
            flags: flags
                .iter()
                .map(|flag| format!("{flag:?}").to_lowercase())
                .collect(),
            simulation: Simulation::from(&simulation),
            slot: trace.slot.as_ref().map(Slot::from),
            entry: trace.entry.as_ref().map(Entry::from),
            track: trace.vip.as_ref().and_then(|vip| {
                let track = vip.spec.as_ref()?.track();
                Some(match track {
                    v1::Track::All => "all".to_owned(),
                    _ => "exceptions".to_owned(),
                })
            }),
            vip_counters: trace.vip_stats.as_ref().map(VipStats::from),
            real_state: trace.real.as_ref().map(Explanation::from),
            real_counters: trace.real_stats.as_ref().map(RealStats::from),
        }
    }

    fn is_like(&self, other: &PacketTrace) -> bool {
        let way = |packet: &PacketTrace| {
            let Simulation {
                verdict,
                reason,
                real,
                chosen_by,
                ..
            } = &packet.simulation;
            (
                verdict.clone(),
                reason.clone(),
                real.clone(),
                chosen_by.clone(),
            )
        };
        way(self) == way(other)
    }

    fn title(&self) -> String {
        match &self.flags[..] {
            [] => "a packet".to_owned(),
            [flag] if flag == "syn" => "the first packet (syn)".to_owned(),
            [flag] if flag == "ack" => "a later packet (ack)".to_owned(),
            flags => format!("a packet ({})", flags.join(",")),
        }
    }

    /// The rule by which the real was chosen, in words.
    fn rule(&self) -> &str {
        match &*self.simulation.chosen_by {
            "ring" => "the ring: all flows of this kind in the slot are on its real",
            "flow" => "the flow table: it knows the flow",
            "new_flow" => "the ring: the flow is new, and begins on the slot's new real",
            "server_id" => "the packet: it has the real's server id",
            "source_rule" => "a rule of the VIP about the packet's source",
            "previous" => "the slot's previous real: the flow ran before the slot changed",
            _ => "nothing",
        }
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            text.push_str(&format!("  {name:<10} {value}\n"));
        };
        let simulation = &self.simulation;
        line(
            "verdict",
            format!("{} ({})", simulation.verdict, simulation.reason),
        );
        match &simulation.vip {
            Some(vip) => line("VIP", vip.clone()),
            None => line("VIP", "none: the packet is for no VIP".to_owned()),
        }
        if let Some(slot) = &self.slot {
            line("slot", slot.human());
        }
        match (&self.entry, &self.slot) {
            (Some(entry), _) => line("flow", entry.human()),
            (None, Some(slot))
                if slot.state != "settled" || self.track.as_deref() == Some("all") =>
            {
                line("flow", "the flow table has no entry of it".to_owned());
            }
            _ => {}
        }
        if let Some(real) = &simulation.real {
            let of = self.real_state.as_ref().and_then(|why| why.real.as_ref());
            let mode = of.and_then(|real| real.mode());
            let mode = mode.map_or_else(String::new, |mode| format!(", by {mode}"));
            line("real", format!("{real}{mode}"));
            line("chosen by", self.rule().to_owned());
        }
        if let Some(why) = &self.real_state
            && let Some(real) = &why.real
        {
            let since = why
                .since
                .map_or_else(String::new, |since| format!(" for {}", table::span(since)));
            let limit = match &*why.limit {
                "" => String::new(),
                limit => format!("; {limit}"),
            };
            line(
                "state",
                format!(
                    "{}{since}, weight {} of {}, {} of the ring{limit}",
                    real.state,
                    real.effective_weight,
                    real.weight,
                    table::percent(real.share)
                ),
            );
        }
        if let Some(real) = &self.real_counters {
            let of = real.counters;
            line(
                "real has",
                format!(
                    "{} packets, {}, {} flows",
                    of.packets,
                    table::bytes(of.bytes),
                    table::flows(real.flows, real.flows_exact)
                ),
            );
        }
        if let Some(vip) = &self.vip_counters {
            line(
                "VIP has",
                format!(
                    "{} packets, {}; {} dropped; {} of the packets consulted the flow table",
                    vip.counters.packets,
                    table::bytes(vip.counters.bytes),
                    vip.dropped_packets,
                    table::percent(vip.table_share)
                ),
            );
        }
        text
    }
}

impl Slot {
    fn human(&self) -> String {
        let real = self.real.as_deref().unwrap_or("no real");
        let since = self
            .since
            .map_or_else(String::new, |since| format!(" for {}", table::span(since)));
        let state = match &*self.state {
            "in_window" => format!(
                "in its window{since}, for {} at most: new flows to {real}, running ones to {}",
                table::span(self.window_ends_in.unwrap_or_default()),
                self.previous
                    .as_deref()
                    .unwrap_or("their real by the flow table (the previous real was deleted)")
            ),
            "exceptions" => format!(
                "its window is over{since}: {real}, and exceptions, for which {} of its flows are looked up",
                table::percent(self.exceptions_share.unwrap_or_default())
            ),
            _ => format!("settled: {real}"),
        };
        let changed = self.ring_changed.map_or_else(String::new, |changed| {
            format!("; the ring last changed {} ago", table::span(changed))
        });
        format!("{} of {}, {state}{changed}", self.number, self.slots)
    }
}

impl Entry {
    fn human(&self) -> String {
        let kind = if self.confirmed {
            "confirmed"
        } else {
            "provisional: one packet came so far"
        };
        let closing = if self.closing {
            ", ended by its client"
        } else {
            ""
        };
        let last = self.last_packet.map_or_else(String::new, |last| {
            format!(", last packet about {} ago", table::span(last))
        });
        format!(
            "on {} by the flow table ({kind}{closing}){last}",
            self.real.as_deref().unwrap_or("a real that was deleted")
        )
    }
}

impl Human for Trace {
    fn human(&self) -> String {
        let mut text = format!("{}\n", self.flow);
        match &self.packets[..] {
            [first, second] if second.is_like(first) => {
                text += "every packet\n";
                // The later packet says more: a flow that is known is one that runs.
                text += &second.lines();
            }
            packets => {
                for packet in packets {
                    text += &format!("{}\n{}", packet.title(), packet.lines());
                }
            }
        }
        text
    }
}
