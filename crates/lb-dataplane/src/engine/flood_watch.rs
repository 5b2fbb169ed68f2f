//! What the flow table evicted and refused lately: for warnings, and for windows that must stay open.

use lb_common::tables::counters::FlowEvictions;
use lb_model::vip::VipKey;

use super::clock::reached;

/// How long an eviction is worth a warning, in ticks (10 s).
const RECENT_TICKS: u32 = 600;
/// Ticks in a second.
const TICKS_PER_SECOND: u64 = 60;
/// Fewer evictions a second are no flood: flows that sent one packet long ago give way to new ones.
const FLOOD_PER_SECOND: u64 = 100;
/// Services that a warning names.
const NAMED: usize = 3;

/// Entries of one service that no second packet has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provisional {
    pub vip: VipKey,
    pub entries: u64,
}

/// How often something happened when it last did.
#[derive(Clone, Copy, Debug)]
struct Rate {
    last: u32,
    per_second: u64,
}

/// Compares the counters of evictions from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct FloodWatch {
    /// The counters and the time of the last look.
    seen: Option<(FlowEvictions, u32)>,
    evicted: Option<Rate>,
    refused: Option<Rate>,
    /// When an entry of a running flow was last evicted.
    running_evicted: Option<u32>,
    /// Whether the log says that a flood is on.
    logged: bool,
}

impl FloodWatch {
    /// Takes note of the counters; `provisional` is what the last sweep saw, the largest first.
    pub fn look(&mut self, counters: FlowEvictions, provisional: &[Provisional], now: u32) {
        // What was counted for an earlier agent is no news.
        let (before, at) = self
            .seen
            .replace((counters, now))
            .unwrap_or((counters, now));
        let ticks = u64::from(now.wrapping_sub(at)).max(1);
        let rate = |now_counted: u64, counted: u64| {
            let events = now_counted.saturating_sub(counted);
            (events > 0).then(|| Rate {
                last: now,
                per_second: (events * TICKS_PER_SECOND).div_ceil(ticks),
            })
        };
        let evicted = rate(
            counters.opening + counters.running,
            before.opening + before.running,
        );
        self.evicted = evicted
            .filter(|rate| rate.per_second >= FLOOD_PER_SECOND)
            .or(self.evicted);
        self.refused = rate(counters.refused, before.refused).or(self.refused);
        if counters.running > before.running {
            self.running_evicted = Some(now);
        }
        let warnings = self.warnings(provisional, now);
        if self.logged && warnings.is_empty() {
            tracing::info!("the flow table evicts and refuses no flows any more");
        }
        if !self.logged {
            for warning in &warnings {
                tracing::warn!("{warning}");
            }
        }
        self.logged = !warnings.is_empty();
    }

    /// Whether windows of this length must stay open: an entry of a running flow was evicted within the last one.
    ///
    /// A window may end because each running flow has sent a packet in it and has an entry. A flow that sent only
    /// one, whose entry was evicted, is still known by the slot's previous real alone.
    #[must_use]
    pub fn holds_windows(&self, window: u32, now: u32) -> bool {
        self.running_evicted
            .is_some_and(|at| !reached(now, at.wrapping_add(window)))
    }

    /// What an operator should know.
    #[must_use]
    pub fn warnings(&self, provisional: &[Provisional], now: u32) -> Vec<String> {
        let recent = |rate: &Option<Rate>| {
            rate.filter(|rate| !reached(now, rate.last.wrapping_add(RECENT_TICKS)))
                .map(|rate| rate.per_second)
        };
        let mut warnings = Vec::new();
        if let Some(per_second) = recent(&self.evicted) {
            let named: Vec<String> = provisional
                .iter()
                .take(NAMED)
                .map(|of| format!("{} ({} entries)", of.vip, of.entries))
                .collect();
            let named = if named.is_empty() {
                String::new()
            } else {
                format!("; most such entries are of {}", named.join(", "))
            };
            warnings.push(format!(
                "the flow table is full of flows that sent one packet each, {per_second} a second give way to others\
                 {named}. This is a flood of forged packets, or flow_entries is too small. Connections that sent a \
                 second packet keep their entries"
            ));
        }
        if let Some(per_second) = recent(&self.refused) {
            warnings.push(format!(
                "the flow table is full of established connections: {per_second} flows a second get no entry and may \
                 break when weights move. Raise flow_entries (it takes effect after `lb-agent detach`) or shorten the \
                 windows of the VIPs"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(opening: u64, running: u64, refused: u64) -> FlowEvictions {
        FlowEvictions {
            opening,
            running,
            refused,
            pad: 0,
        }
    }

    #[test]
    fn a_flood_is_a_warning_while_it_lasts() {
        let provisional = [Provisional {
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            entries: 262_000,
        }];
        let mut watch = FloodWatch::default();
        watch.look(counted(500, 0, 7), &provisional, 1_000);
        assert!(
            watch.warnings(&provisional, 1_000).is_empty(),
            "counted for an earlier agent"
        );
        watch.look(counted(100_500, 0, 7), &provisional, 1_060);
        let warnings = watch.warnings(&provisional, 1_060);
        assert_eq!(warnings.len(), 1);
        for word in [
            "100000 a second",
            "10.0.0.1:80/tcp (262000 entries)",
            "flow_entries",
        ] {
            assert!(warnings[0].contains(word), "no {word} in {}", warnings[0]);
        }
        watch.look(counted(100_550, 0, 19), &provisional, 1_120);
        let warnings = watch.warnings(&provisional, 1_120);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[1].contains("12 flows a second"), "{}", warnings[1]);
        assert_eq!(watch.warnings(&[], 1_060 + RECENT_TICKS).len(), 1);
        assert!(watch.warnings(&[], 1_120 + RECENT_TICKS).is_empty());
    }

    #[test]
    fn windows_stay_open_for_a_window_after_a_running_flow_lost_its_entry() {
        let mut watch = FloodWatch::default();
        watch.look(counted(0, 0, 0), &[], 100);
        watch.look(counted(9, 0, 0), &[], 160);
        assert!(!watch.holds_windows(60, 160), "SYNs only");
        watch.look(counted(9, 1, 0), &[], 220);
        assert!(watch.holds_windows(60, 220) && watch.holds_windows(60, 279));
        assert!(!watch.holds_windows(60, 280) && watch.holds_windows(90, 280));
    }
}
