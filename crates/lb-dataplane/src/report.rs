//! What the tables tell: counters, live flows, use of the tables.

use std::net::IpAddr;

use lb_common::tables::{
    counters::RealCounters,
    flow::{CLOSING, Flow, real_of},
};
use lb_model::vip::VipAddress;

use super::{
    Counters, DataplaneError, FlowTableStats, InterfaceStats, RealFlows, ServiceStats, Stats,
    Status, TableUse,
    engine::{Engine, RealState, is_dead},
    home::Home,
    services::reached,
    sweep::{alive, sum},
};

impl From<RealCounters> for Counters {
    fn from(c: RealCounters) -> Counters {
        Counters {
            packets: c.packets,
            bytes: c.bytes,
            opened: c.opened,
            closed: c.closed,
            lost: 0,
        }
    }
}

impl<H: Home> Engine<H> {
    /// All counters; `interfaces` in the order of their places.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn stats(&self, interfaces: &[(u32, String)]) -> Result<Stats, DataplaneError> {
        let all = self.home.all_real_counters()?;
        let of = |index: u16| -> Counters {
            all.get(usize::from(index))
                .copied()
                .unwrap_or_default()
                .into()
        };
        let mut services = Vec::with_capacity(self.services.len());
        for (vip, state) in &self.services {
            let mut total = state.retired;
            let mut reals = Vec::with_capacity(state.reals.len());
            for real in &state.reals {
                let counters = self.with_lost(real, of(real.index));
                total = sum(total, counters);
                reals.push((real.address, counters));
            }
            for dying in self
                .dying
                .iter()
                .filter(|dying| dying.service == state.index)
            {
                total = sum(total, of(dying.index));
            }
            let dropped = self.home.service_counters(state.index)?;
            let dropped = (dropped.dropped_packets, dropped.dropped_bytes);
            services.push(ServiceStats {
                vip: *vip,
                total,
                dropped,
                slots: u64::from(state.slots),
                unsettled_slots: u64::from(state.unsettled),
                reals,
            });
        }
        let interfaces = interfaces
            .iter()
            .map(|(slot, name)| {
                Ok(InterfaceStats {
                    name: name.clone(),
                    reasons: self.home.reasons(*slot)?,
                })
            })
            .collect::<Result<_, DataplaneError>>()?;
        let flows = self.home.flow_counters()?;
        let flow_table = FlowTableStats {
            capacity: self.flow_capacity(),
            used: self.sweeper.used,
            inserted: flows.inserted,
            evicted: flows.evicted,
            hits: flows.hits,
            misses: flows.misses,
        };
        Ok(Stats {
            services,
            interfaces,
            flow_table,
        })
    }

    /// A real's counters, with what it lost.
    fn with_lost(&self, real: &RealState, counters: Counters) -> Counters {
        let record = self.home.real(u32::from(real.index));
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
        let now = self.home.now();
        let layout = self.home.layout();
        let mut windows = vec![0; layout.reals as usize];
        let mut returned = vec![None; layout.reals as usize];
        for state in self.services.values() {
            for real in &state.reals {
                windows[usize::from(real.index)] = state.window;
                returned[usize::from(real.index)] = real.returned;
            }
        }
        let mut entries = vec![0_u64; layout.reals as usize];
        // Without those whose FIN or RST was seen: their entries stay for late packets only.
        let mut running = entries.clone();
        self.home.sweep_flows(&mut |flow: Flow| {
            let real = usize::from(real_of(flow.owner));
            if let Some(&window) = windows.get(real)
                && alive(&flow, now, window)
            {
                entries[real] += 1;
                let heard = returned[real].is_none_or(|back| reached(flow.stamp as u32, back));
                running[real] += u64::from(flow.stamp & CLOSING == 0 && heard);
            }
            true
        });
        let all = self.home.all_real_counters()?;
        let mut flows = Vec::new();
        for (vip, state) in &self.services {
            for real in &state.reals {
                let entries = entries[usize::from(real.index)];
                let dead = is_dead(self.home.real(u32::from(real.index)).flags);
                let open = if state.track_all {
                    // A dead real's entries are there so that its clients can be told.
                    if dead {
                        0
                    } else {
                        running[usize::from(real.index)]
                    }
                } else {
                    let counters = all
                        .get(usize::from(real.index))
                        .copied()
                        .unwrap_or_default();
                    self.with_lost(real, counters.into()).open()
                };
                flows.push(RealFlows {
                    vip: *vip,
                    address: real.address,
                    flows: open,
                    exact: state.track_all,
                    entries,
                    reachable: real.hop.is_some(),
                });
            }
        }
        Ok(flows)
    }

    /// The names of a service and a real by their indices.
    pub fn names(&self, service: u32, real: u32) -> (Option<VipAddress>, Option<IpAddr>) {
        let state = self.services.values().find(|state| state.index == service);
        let real =
            state.and_then(|state| state.reals.iter().find(|of| u32::from(of.index) == real));
        (state.map(|state| state.vip), real.map(|real| real.address))
    }

    /// What the tables say of themselves; the home adds interfaces and warnings of its own.
    pub fn status(&self) -> Status {
        let meta = self.home.meta();
        Status {
            interfaces: Vec::new(),
            tables: self.tables(),
            unsettled_slots: self
                .services
                .values()
                .map(|state| u64::from(state.unsettled))
                .sum(),
            slots: self
                .services
                .values()
                .map(|state| u64::from(state.slots))
                .sum(),
            layout: meta.layout,
            generation: meta.generation,
            adopted: false,
            warnings: self
                .warnings
                .iter()
                .cloned()
                .chain(self.unreachable())
                .collect(),
        }
    }

    fn unreachable(&self) -> Vec<String> {
        /// More than this nobody reads.
        const LISTED: usize = 20;
        let mut addresses: Vec<_> = self
            .services
            .values()
            .flat_map(|state| &state.reals)
            .filter(|real| real.hop.is_none())
            .map(|real| real.address)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let mut warnings: Vec<_> = addresses
            .iter()
            .take(LISTED)
            .map(|&address| {
                let why = self
                    .resolver
                    .trouble(address)
                    .unwrap_or_else(|| "its next hop is not known".to_owned());
                format!("the real {address} is unreachable: {why}")
            })
            .collect();
        if addresses.len() > LISTED {
            warnings.push(format!(
                "and {} reals more are unreachable",
                addresses.len() - LISTED
            ));
        }
        warnings
    }

    fn flow_capacity(&self) -> u64 {
        u64::from(self.home.layout().flow_buckets) * lb_common::limits::FLOWS_PER_BUCKET as u64
    }

    fn tables(&self) -> Vec<TableUse> {
        use lb_common::tables::names;
        let v6 = self
            .services
            .keys()
            .filter(|vip| vip.address.is_ipv6())
            .count() as u64;
        let v4 = self.services.len() as u64 - v6;
        let echo6 = self
            .addresses
            .keys()
            .filter(|address| address.is_ipv6())
            .count() as u64;
        let echo4 = self.addresses.len() as u64 - echo6;
        let mut tables = self.home.tables();
        for table in &mut tables {
            table.used = match table.name {
                names::VIPS4 => v4 + echo4,
                names::VIPS6 => v6 + echo6,
                names::SERVICES | names::SERVICE_COUNTERS => u64::from(self.service_indices.used()),
                names::REALS | names::REAL_COUNTERS => u64::from(self.real_indices.used()),
                names::NEXT_HOPS => u64::from(self.hops.used()),
                names::RINGS => self.extents.used(),
                names::FLOWS => self.sweeper.used,
                _ => table.capacity,
            };
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        Dataplane as _, Forward, MemoryDataplane, Track, WantedService, WhenEmpty,
        hops::Neighbours, options::Options,
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

    #[test]
    fn a_closed_flow_is_an_entry_and_no_live_flow() {
        let mut plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(Neighbours)).unwrap();
        let wanted = WantedService {
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            forward: Forward::Ipip,
            track: Track::All,
            window: Duration::from_secs(60),
            reals: vec!["10.1.0.2".parse().unwrap()],
            down: std::collections::BTreeMap::new(),
            ring: vec![0; 256].into(),
            when_empty: WhenEmpty::Drop,
        };
        plane.set_service(&wanted).unwrap();
        for port in [1_000, 1_001, 1_002] {
            plane.forward(&frame(port, |tcp| tcp.syn()));
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
