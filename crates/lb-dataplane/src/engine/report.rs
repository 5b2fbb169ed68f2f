//! What the tables say: counters, live flows, use of the tables.

use std::{collections::BTreeSet, net::IpAddr};

use lb_common::{
    limits::FLOWS_PER_BUCKET,
    tables::{
        flow::{CLOSING, Flow, real_of},
        meta::version,
        names,
    },
};
use lb_model::vip::Protocol;

use super::{
    Engine, clock::reached, flow_sweep::is_alive, real_record::is_dead, service_table::RealEntry,
};
use crate::{
    backend::TableBackend,
    error::DataplaneError,
    stats::{
        Counters, FlowTableStats, InterfaceStats, RealFlows, RealStats, ServiceStats, SlotStates,
        Stats,
    },
    status::{Status, TableUse},
};

/// A list of unreachable reals that is longer than this is of no use to an operator.
const LISTED_UNREACHABLE: usize = 20;

impl<B: TableBackend> Engine<B> {
    /// All counters. `interfaces` are their slots in the counters and their names.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn stats(&self, interfaces: &[(u32, String)]) -> Result<Stats, DataplaneError> {
        let all = self.backend.all_real_counters()?;
        let counters_of = |index: u16| -> Counters {
            all.get(usize::from(index))
                .copied()
                .unwrap_or_default()
                .into()
        };
        let mut services = Vec::with_capacity(self.services.len());
        for entry in self.services.iter() {
            let mut total = entry.retired;
            let mut reals = Vec::with_capacity(entry.reals.len());
            for real in &entry.reals {
                let counters = self.with_lost(real, counters_of(real.index));
                total += counters;
                reals.push(RealStats {
                    real: real.id,
                    counters,
                    signs: (entry.vip.protocol == Protocol::Tcp)
                        .then(|| self.backend.signs(u32::from(real.index))),
                });
            }
            for index in self.reals.retiring_of(entry.index) {
                total += counters_of(index);
            }
            let dropped = self.backend.service_counters(entry.index)?;
            let lookups = self.backend.lookup_counters(entry.index)?;
            let named = self.backend.server_id_counters(entry.index)?;
            services.push(ServiceStats {
                vip: entry.vip,
                total,
                dropped: (dropped.dropped_packets, dropped.dropped_bytes),
                slots: entry.ring.states(),
                table_hits: lookups.hits,
                table_misses: lookups.misses,
                named: named.known,
                named_unknown: named.unknown,
                reals,
            });
        }
        let interfaces = interfaces
            .iter()
            .map(|(slot, name)| {
                Ok(InterfaceStats {
                    name: name.clone(),
                    reasons: self.backend.reasons(*slot)?,
                    decapsulated: self.backend.decapsulated(*slot)?,
                })
            })
            .collect::<Result<_, DataplaneError>>()?;
        let flows = self.backend.flow_counters()?;
        let evictions = self.backend.flow_evictions()?;
        let provisional = self.flow_sweep.provisional().iter();
        Ok(Stats {
            services,
            interfaces,
            flow_table: FlowTableStats {
                capacity: u64::from(self.backend.sizes().flow_buckets) * FLOWS_PER_BUCKET as u64,
                used: self.flow_sweep.used(),
                inserted: flows.inserted,
                provisional: provisional.map(|of| of.entries).sum(),
                evicted: flows.evicted,
                evicted_provisional: evictions.opening + evictions.running,
                refused: evictions.refused,
                hits: flows.hits,
                misses: flows.misses,
            },
        })
    }

    /// A real's counters, with the flows it lost.
    fn with_lost(&self, real: &RealEntry, counters: Counters) -> Counters {
        let record = self.backend.real(u32::from(real.index));
        let lost = if is_dead(record.flags) {
            counters.open()
        } else {
            record.lost.into()
        };
        Counters { lost, ..counters }
    }

    /// Live flows of every real.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        let now = self.backend.now();
        let reals = self.backend.sizes().reals as usize;
        let mut windows = vec![0; reals];
        let mut returned = vec![None; reals];
        for entry in self.services.iter() {
            for real in &entry.reals {
                windows[usize::from(real.index)] = entry.window;
                returned[usize::from(real.index)] = real.returned;
            }
        }
        let mut entries = vec![0_u64; reals];
        // Without the flows whose FIN or RST was seen: their entries stay only for late packets.
        let mut running = entries.clone();
        self.backend.sweep_flows(&mut |flow: Flow| {
            let real = usize::from(real_of(flow.owner));
            if let Some(&window) = windows.get(real)
                && is_alive(&flow, now, window)
            {
                entries[real] += 1;
                let heard = returned[real].is_none_or(|back| reached(flow.stamp as u32, back));
                running[real] += u64::from(flow.stamp & CLOSING == 0 && heard);
            }
            true
        });
        let counters = self.backend.all_real_counters()?;
        let mut flows = Vec::new();
        for entry in self.services.iter() {
            for real in &entry.reals {
                let index = usize::from(real.index);
                let exact = entry.tracking.counts_flows();
                let open = if !exact {
                    let counters = counters.get(index).copied().unwrap_or_default();
                    self.with_lost(real, counters.into()).open()
                } else if is_dead(self.backend.real(u32::from(real.index)).flags) {
                    // Its entries are there so that its clients can be reset.
                    0
                } else {
                    running[index]
                };
                flows.push(RealFlows {
                    vip: entry.vip,
                    real: real.id,
                    flows: open,
                    exact,
                    entries: entries[index],
                    reachable: real.hop.is_some(),
                });
            }
        }
        Ok(flows)
    }

    /// What the tables say of themselves; the caller adds interfaces and its own warnings.
    pub fn status(&self) -> Status {
        let meta = self.backend.meta();
        let mut slots = SlotStates::default();
        for entry in self.services.iter() {
            slots += entry.ring.states();
        }
        Status {
            interfaces: Vec::new(),
            tables: self.table_use(),
            slots,
            layout: version(meta.layout),
            generation: meta.generation,
            adopted: false,
            warnings: self
                .warnings
                .iter()
                .cloned()
                .chain(self.unreachable())
                .chain(
                    self.flood_watch
                        .warnings(self.flow_sweep.provisional(), self.backend.now()),
                )
                .collect(),
        }
    }

    /// A warning for each unreachable real.
    fn unreachable(&self) -> Vec<String> {
        let addresses: BTreeSet<IpAddr> = self
            .services
            .iter()
            .flat_map(|entry| &entry.reals)
            .filter(|real| real.hop.is_none())
            .map(|real| real.id.address)
            .collect();
        let mut warnings: Vec<_> = addresses
            .iter()
            .take(LISTED_UNREACHABLE)
            .map(|&address| {
                let reason = self
                    .addresses
                    .unresolved_reason(address)
                    .unwrap_or_else(|| "its next hop is not known".to_owned());
                format!("the real {address} is unreachable: {reason}")
            })
            .collect();
        if addresses.len() > LISTED_UNREACHABLE {
            warnings.push(format!(
                "{} further reals are unreachable",
                addresses.len() - LISTED_UNREACHABLE
            ));
        }
        warnings
    }

    fn table_use(&self) -> Vec<TableUse> {
        let count = |v6: bool| {
            let vips = self
                .services
                .names()
                .filter(|vip| vip.address.is_ipv6() == v6);
            let echo_keys = self.vips.addresses().filter(|a| a.is_ipv6() == v6);
            (vips.count() + echo_keys.count()) as u64
        };
        let mut tables = self.backend.tables();
        for table in &mut tables {
            table.used = match table.name {
                names::VIPS4 => count(false),
                names::VIPS6 => count(true),
                names::SERVICES
                | names::SERVICE_COUNTERS
                | names::LOOKUPS
                | names::SERVER_ID_COUNTERS => u64::from(self.services.used()),
                names::SERVER_IDS => self.server_ids.used()[0],
                names::QUIC_LB => self.server_ids.used()[1],
                names::SOURCE_RULES => self.source_rules.used(),
                names::REALS | names::REAL_COUNTERS | names::SIGNS => u64::from(self.reals.used()),
                names::WIDE | names::PORT_SETS => self.wide.used(),
                names::SAMPLES => self.backend.sampled(),
                names::NAT_FLOWS => self.nat_entries,
                names::NEXT_HOPS => u64::from(self.next_hops.used()),
                names::RINGS => self.ring_space.used(),
                names::FLOWS => self.flow_sweep.used(),
                _ => table.capacity,
            };
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lb_model::options::{Forward, Track};

    use crate::{
        Dataplane as _, MemoryDataplane, ServiceSpec, Terms, options::Options,
        resolver::AllNeighbours,
    };

    type Tcp = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

    fn frame(port: u16, flags: fn(Tcp) -> Tcp) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([198, 51, 100, 7], [10, 0, 0, 1], 64)
            .tcp(port, 80, 1, 1_024);
        let mut frame = Vec::new();
        flags(builder).write(&mut frame, &[]).unwrap();
        frame
    }

    fn spec(reals: &[&str], index: u16) -> ServiceSpec {
        ServiceSpec {
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            forward: Forward::Ipip,
            terms: Terms::default(),
            track: Track::Exceptions,
            window: Duration::from_secs(60),
            reals: reals.iter().map(|real| real.parse().unwrap()).collect(),
            down: std::collections::BTreeMap::new(),
            ring: vec![index; 256].into(),
        }
    }

    #[test]
    fn the_next_real_with_an_index_starts_without_signs() {
        let mut plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(AllNeighbours)).unwrap();
        let signs = |plane: &MemoryDataplane, at: usize| {
            plane.stats().unwrap().services[0].reals[at].signs.unwrap()
        };
        plane.set_service(&spec(&["10.1.0.2"], 0)).unwrap();
        plane.forward(&frame(1_000, |tcp| tcp.syn()));
        plane.forward(&frame(1_000, |tcp| tcp.ack(1).fin()));
        plane.forward(&frame(1_001, |tcp| tcp.syn()));
        assert_eq!((signs(&plane, 0).opened, signs(&plane, 0).ended()), (2, 1));
        plane.set_service(&spec(&["10.1.0.3"], 0)).unwrap();
        for _ in 0..3 {
            plane.pass_time(100);
            plane.tick().unwrap();
        }
        // It gets the index of the deleted one.
        plane
            .set_service(&spec(&["10.1.0.3", "10.1.0.4"], 1))
            .unwrap();
        plane.forward(&frame(1_001, |tcp| tcp.ack(1).fin()));
        assert_eq!(signs(&plane, 1), crate::Signs::default());
        plane.forward(&frame(1_002, |tcp| tcp.syn()));
        assert_eq!(signs(&plane, 1).opened, 1);
    }

    #[test]
    fn a_closed_flow_is_an_entry_but_not_a_live_flow() {
        let mut plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(AllNeighbours)).unwrap();
        let spec = ServiceSpec {
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            forward: Forward::Ipip,
            terms: Terms::default(),
            track: Track::All,
            window: Duration::from_secs(60),
            reals: vec!["10.1.0.2".parse().unwrap()],
            down: std::collections::BTreeMap::new(),
            ring: vec![0; 256].into(),
        };
        plane.set_service(&spec).unwrap();
        for port in [1_000, 1_001, 1_002] {
            plane.forward(&frame(port, |tcp| tcp.syn()));
            plane.forward(&frame(port, |tcp| tcp.ack(1)));
        }
        let seen = |plane: &MemoryDataplane| {
            let flows = plane.flows().unwrap();
            assert!(flows[0].exact);
            (flows[0].flows, flows[0].entries)
        };
        assert_eq!(seen(&plane), (3, 3));
        plane.forward(&frame(1_000, |tcp| tcp.ack(1).fin()));
        plane.forward(&frame(1_001, |tcp| tcp.rst()));
        assert_eq!(seen(&plane), (1, 3));
        plane.pass_time(lb_common::limits::CLOSING_TICKS + 1);
        assert_eq!(seen(&plane), (1, 1));
    }
}
