//! Everything that metrics say of one moment.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime},
};

use lb_dataplane::{Counters, FlowTableStats, InterfaceStats, RealStats, Signs, SlotStates};
use lb_model::vip::RealId;
use lb_serve::metrics::{Snapshot, Writer};

use super::definitions::GROUPS;
use crate::control::{Figures, RealView, StatusView, Work};
use crate::supervisor::{AllFigures, ProbeCounts, RealFigures};

/// The agent's figures at one moment.
#[derive(Debug)]
pub struct Scrape {
    /// When the agent started.
    pub(super) started: SystemTime,
    /// The VIPs, by name.
    pub(super) vips: Vec<VipScrape>,
    /// VIPs that are configured and not served.
    pub(super) unplaced: usize,
    /// Frames by reason.
    pub(super) interfaces: Vec<InterfaceStats>,
    /// Use of the flow table.
    pub(super) flow_table: FlowTableStats,
    /// Interfaces, tables and warnings.
    pub(super) status: StatusView,
    /// The owner's work.
    pub(super) work: Work,
    /// Commands that waited for the owner when the scrape began.
    pub(super) waiting: usize,
    /// How long the owner took to collect its part.
    pub(super) took: Duration,
}

/// The figures of a VIP.
#[derive(Debug)]
pub(super) struct VipScrape {
    /// Its name, the value of the label `vip`.
    pub name: String,
    /// Whether its address is of IPv6.
    pub v6: bool,
    pub total: Counters,
    /// Packets and bytes.
    pub dropped: (u64, u64),
    pub slots: SlotStates,
    /// Packets that consulted the flow table: with and without success.
    pub lookups: (u64, u64),
    /// Packets with a server id: of a known real, and others.
    pub named: (u64, u64),
    pub falls_back: Option<bool>,
    pub probes: Option<ProbeCounts>,
    pub reals: Vec<RealScrape>,
}

/// The figures of a real of a VIP.
#[derive(Debug)]
pub(super) struct RealScrape {
    /// Its name, the value of the label `real`.
    pub name: String,
    pub view: RealView,
    pub counters: Counters,
    /// `None` for UDP.
    pub signs: Option<Signs>,
    pub observed: RealFigures,
}

impl Scrape {
    /// Puts together what the owner and the supervisor say.
    #[must_use]
    pub fn new(
        started: SystemTime,
        waiting: usize,
        figures: Figures,
        mut observed: AllFigures,
    ) -> Self {
        let Figures {
            vips,
            stats,
            status,
            unplaced,
            work,
            took,
        } = figures;
        let mut services: HashMap<_, _> = stats
            .services
            .into_iter()
            .map(|service| (service.vip, service))
            .collect();
        let vips = vips
            .into_iter()
            .map(|view| {
                let address = view.vip.address;
                let supervised = observed.remove(&address);
                let falls_back = supervised.as_ref().map(|figures| figures.falls_back);
                let mut observed = supervised.unwrap_or_default();
                let service = services.remove(&address);
                let mut vip = VipScrape {
                    name: address.to_string(),
                    v6: address.address.is_ipv6(),
                    total: Counters::default(),
                    dropped: (0, 0),
                    slots: SlotStates::default(),
                    lookups: (0, 0),
                    named: (0, 0),
                    falls_back,
                    probes: observed.probes,
                    reals: Vec::with_capacity(view.reals.len()),
                };
                let mut counted: HashMap<RealId, RealStats> = HashMap::new();
                if let Some(service) = service {
                    vip.total = service.total;
                    vip.dropped = service.dropped;
                    vip.slots = service.slots;
                    vip.lookups = (service.table_hits, service.table_misses);
                    vip.named = (service.named, service.named_unknown);
                    counted.extend(service.reals.into_iter().map(|real| (real.real, real)));
                }
                let real = |view: RealView| {
                    let counted = counted.get(&view.address);
                    RealScrape {
                        name: view.address.to_string(),
                        counters: counted.map_or_else(Default::default, |of| of.counters),
                        signs: counted.and_then(|of| of.signs),
                        observed: observed.reals.remove(&view.address).unwrap_or_default(),
                        view,
                    }
                };
                vip.reals = view.reals.into_iter().map(real).collect();
                vip
            })
            .collect();
        Scrape {
            started,
            vips,
            unplaced,
            interfaces: stats.interfaces,
            flow_table: stats.flow_table,
            status,
            work,
            waiting,
            took,
        }
    }
}

impl Snapshot for Scrape {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        for (_, metrics) in GROUPS {
            for metric in *metrics {
                writer.family(&metric.family, |samples| metric.write(self, samples))?;
            }
        }
        Ok(())
    }
}
