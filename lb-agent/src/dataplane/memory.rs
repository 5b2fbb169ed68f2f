//! The data plane in memory: the same rules, the same decision, no kernel. For tests and for trying things.

use std::net::IpAddr;

use lb_common::{
    limits::{MAX_NEXT_HOPS, MAX_REALS, MAX_SERVICES, SLOTS_PER_CHUNK},
    memory::{Constants, MemFrame, MemTables, Processed, run, simulate},
    reason::Reason,
    tables::{
        counters::{FlowTableCounters, RealCounters, ServiceCounters},
        flow::{Bucket, Flow},
        meta::{LAYOUT_VERSION, MAGIC, Meta},
        names,
        next_hop::NextHop,
        real::Real,
        ring::{Chunk, Slot},
        service::Service,
    },
    vip::VipAddress,
    vip_table::edit,
};

use super::{
    Dataplane, DataplaneError, InterfaceStatus, RealFlows, Simulation, Stats, Status, TableUse,
    WantedService,
    engine::Engine,
    error::system,
    home::{Home, VipKey},
    hops::Resolver,
    layout::Layout,
    options::Options,
    simulate::{LONGEST, SHORTEST},
    vips::room_for,
};

/// Its one interface.
const INTERFACE: &str = "memory";
/// Index of that interface.
pub const INTERFACE_INDEX: u32 = 1;
/// Nobody aims at its tables.
pub(super) const FLOW_SECRET: [u64; 2] = [0x5EED, 0xF10E];

/// Tables in memory. Those of services and reals have their full size from the start; rings grow.
struct MemoryHome {
    tables: MemTables,
    layout: Layout,
    meta: Meta,
    /// Counters as they were when they were last cleared.
    cleared_reals: Vec<RealCounters>,
    cleared_services: Vec<ServiceCounters>,
}

// `MemTables` counts in cells; it is moved between threads, never shared.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<MemoryHome>();
};

impl MemoryHome {
    fn place_vip(&mut self, key: &VipKey, service: u32) -> Result<(), edit::BucketsFull> {
        match key {
            VipKey::V4(key) => self.tables.insert_vip4(key, service),
            VipKey::V6(key) => self.tables.insert_vip6(key, service),
        }
    }
}

impl Home for MemoryHome {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn grow(&mut self, layout: Layout) -> Result<(), DataplaneError> {
        let vips = self.vips()?;
        let layout = room_for(layout, &self.layout, self.meta.flow_secret, &vips)?;
        let empty = Chunk {
            slots: [0; SLOTS_PER_CHUNK as usize],
        };
        self.tables
            .rings
            .resize((layout.ring_slots / SLOTS_PER_CHUNK) as usize, empty);
        if layout.vip_buckets != self.layout.vip_buckets {
            self.tables.clear_vips(layout.vip_buckets);
            for (key, service) in &vips {
                // `room_for` has tried it.
                self.place_vip(key, *service).map_err(|_| {
                    system("growing the VIP tables")("a VIP has no place; an agent's fault")
                })?;
            }
        }
        self.layout = layout;
        self.meta.generation += 1;
        Ok(())
    }

    fn meta(&self) -> Meta {
        self.meta
    }

    fn now(&self) -> u32 {
        self.tables.now
    }

    fn insert_vip(&mut self, key: VipKey, service: u32) -> Result<(), DataplaneError> {
        while self.place_vip(&key, service).is_err() {
            self.grow(self.layout.with_more_vips()?)?;
        }
        Ok(())
    }

    fn remove_vip(&mut self, key: VipKey) -> Result<(), DataplaneError> {
        match key {
            VipKey::V4(key) => self.tables.remove_vip4(&key),
            VipKey::V6(key) => self.tables.remove_vip6(&key),
        }
        Ok(())
    }

    fn vips(&self) -> Result<Vec<(VipKey, u32)>, DataplaneError> {
        let v4 = edit::vips4(&self.tables.vips4).map(|(key, service)| (VipKey::V4(key), service));
        let v6 = edit::vips6(&self.tables.vips6).map(|(key, service)| (VipKey::V6(key), service));
        Ok(v4.chain(v6).collect())
    }

    fn set_config_flags(&mut self, flags: u32) {
        self.tables.config.flags = flags;
    }

    fn service(&self, index: u32) -> Service {
        self.tables.services[index as usize]
    }

    fn write_service(&mut self, index: u32, service: Service) {
        self.tables.services[index as usize] = service;
    }

    fn set_ring_place(&mut self, index: u32, place: u64) {
        self.tables.services[index as usize].ring = place;
    }

    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32) {
        let service = &mut self.tables.services[index as usize];
        (service.flags, service.window) = (flags, window);
    }

    fn slot(&self, index: u32) -> Slot {
        self.tables.rings[(index / SLOTS_PER_CHUNK) as usize].slots
            [(index % SLOTS_PER_CHUNK) as usize]
    }

    fn set_slot(&mut self, index: u32, slot: Slot) {
        self.tables.set_slot(index, slot);
    }

    fn real(&self, index: u32) -> Real {
        self.tables.reals[index as usize]
    }

    fn write_real(&mut self, index: u32, real: Real) {
        self.tables.reals[index as usize] = real;
    }

    fn set_real_flags(&mut self, index: u32, flags: u32) {
        self.tables.reals[index as usize].flags = flags;
    }

    fn set_real_lost(&mut self, index: u32, lost: u32) {
        self.tables.reals[index as usize].lost = lost;
    }

    fn set_real_next_hop(&mut self, index: u32, next_hop: u32) {
        self.tables.reals[index as usize].next_hop = next_hop;
    }

    fn budget(&self, index: u32) -> i64 {
        self.tables.budgets[index as usize].load() as i64
    }

    fn set_budget(&mut self, index: u32, flows: i64) {
        self.tables.budgets[index as usize].store(flows as u64);
    }

    fn next_hop(&self, index: u32) -> NextHop {
        self.tables.next_hops[index as usize]
    }

    fn write_next_hop(&mut self, index: u32, next_hop: NextHop) {
        self.tables.next_hops[index as usize] = next_hop;
    }

    fn sweep_flows(&self, visit: &mut dyn FnMut(Flow) -> bool) -> u64 {
        let mut emptied = 0;
        for entry in self.tables.flows.iter().flat_map(|bucket| &bucket.flows) {
            let flow = Flow {
                owner: entry.owner.load(),
                stamp: entry.stamp.load(),
            };
            if flow.owner != 0 && !visit(flow) {
                entry.owner.store(0);
                emptied += 1;
            }
        }
        emptied
    }

    fn real_counters(&self, index: u32) -> Result<RealCounters, DataplaneError> {
        let index = index as usize;
        let (now, then) = (
            self.tables.read_counters(|c| c.reals[index]),
            self.cleared_reals[index],
        );
        Ok(RealCounters {
            packets: now.packets - then.packets,
            bytes: now.bytes - then.bytes,
            opened: now.opened - then.opened,
            closed: now.closed - then.closed,
        })
    }

    fn all_real_counters(&self) -> Result<Vec<RealCounters>, DataplaneError> {
        (0..self.layout.reals)
            .map(|index| self.real_counters(index))
            .collect()
    }

    fn clear_real_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        let index = index as usize;
        self.cleared_reals[index] = self.tables.read_counters(|c| c.reals[index]);
        Ok(())
    }

    fn service_counters(&self, index: u32) -> Result<ServiceCounters, DataplaneError> {
        let index = index as usize;
        let (now, then) = (
            self.tables.read_counters(|c| c.services[index]),
            self.cleared_services[index],
        );
        Ok(ServiceCounters {
            dropped_packets: now.dropped_packets - then.dropped_packets,
            dropped_bytes: now.dropped_bytes - then.dropped_bytes,
        })
    }

    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        let index = index as usize;
        self.cleared_services[index] = self.tables.read_counters(|c| c.services[index]);
        Ok(())
    }

    fn flow_counters(&self) -> Result<FlowTableCounters, DataplaneError> {
        Ok(self.tables.read_counters(|c| c.flows))
    }

    fn reasons(&self, _interface_slot: u32) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        Ok(self.tables.read_counters(|c| {
            Reason::ALL
                .iter()
                .map(|&reason| (reason, c.reasons[reason as usize]))
                .collect()
        }))
    }

    fn tables(&self) -> Vec<TableUse> {
        let table = |name, capacity: u32, size: usize| TableUse {
            name,
            used: 0,
            capacity: u64::from(capacity),
            bytes: u64::from(capacity) * size as u64,
        };
        vec![
            table(names::SERVICES, self.layout.services, size_of::<Service>()),
            table(names::RINGS, self.layout.ring_slots, size_of::<Slot>()),
            table(names::REALS, self.layout.reals, size_of::<Real>()),
            table(
                names::NEXT_HOPS,
                self.layout.next_hops,
                size_of::<NextHop>(),
            ),
            table(
                names::FLOWS,
                self.layout.flow_buckets * 4,
                size_of::<Bucket>() / 4,
            ),
        ]
    }
}

/// A data plane that forwards the frames it is given.
pub struct MemoryDataplane {
    engine: Engine<MemoryHome>,
}

impl MemoryDataplane {
    /// Empty tables. Of the options those of the kernel (interfaces, pins, mode, log) do not matter.
    ///
    /// # Errors
    /// None that are known; the signature is the kernel's.
    pub fn new(
        options: &Options,
        resolver: Box<dyn Resolver>,
    ) -> Result<MemoryDataplane, DataplaneError> {
        let layout = Layout {
            services: MAX_SERVICES,
            reals: MAX_REALS,
            next_hops: MAX_NEXT_HOPS,
            ..Layout::initial(options.flow_entries)
        };
        let mut tables = MemTables::new(
            layout.services as usize,
            layout.reals as usize,
            layout.ring_slots as usize,
            layout.next_hops as usize,
            layout.flow_buckets as usize,
        );
        tables.constants = Constants {
            interface_index: INTERFACE_INDEX,
            ring_seed: options.ring_seed,
            flow_secret: FLOW_SECRET,
        };
        tables.clear_vips(layout.vip_buckets);
        let meta = Meta {
            magic: MAGIC,
            layout: LAYOUT_VERSION,
            generation: 1,
            ring_seed: options.ring_seed,
            flow_secret: FLOW_SECRET,
            pad: [0; 2],
        };
        let home = MemoryHome {
            cleared_reals: vec![RealCounters::default(); layout.reals as usize],
            cleared_services: vec![ServiceCounters::default(); layout.services as usize],
            tables,
            layout,
            meta,
        };
        Ok(MemoryDataplane {
            engine: Engine::new(home, resolver, options.source_v4, options.source_v6)?,
        })
    }

    /// Forwards a frame: what became of it, and its bytes then.
    pub fn forward(&mut self, frame: &[u8]) -> (Processed, Vec<u8>) {
        let mut frame = MemFrame::new(frame);
        let outcome = run(&mut self.engine.home.tables, &mut frame);
        (outcome, frame.bytes().to_vec())
    }

    /// The mark of a real's probes: no packet of this home has one, but it names the real's index.
    #[cfg(test)]
    pub(super) fn mark_of(&self, vip: &VipAddress, real: IpAddr) -> Option<u32> {
        self.engine.probe_mark(vip, real)
    }

    /// Lets time pass, in ticks of 2^[`lb_common::limits::TICK_SHIFT`] ns.
    pub fn pass_time(&mut self, ticks: u32) {
        let now = &mut self.engine.home.tables.now;
        *now = now.wrapping_add(ticks);
    }
}

impl Dataplane for MemoryDataplane {
    fn set_service(&mut self, wanted: &WantedService) -> Result<(), DataplaneError> {
        self.engine.set_service(wanted)
    }

    fn shed(&mut self, vip: &VipAddress, real: IpAddr, flows: u32) -> Result<u32, DataplaneError> {
        self.engine.shed(vip, real, flows)
    }

    fn probe_mark(&self, _vip: &VipAddress, _real: IpAddr) -> Option<u32> {
        None
    }

    fn probe_trouble(&mut self, _vip: &VipAddress) -> Option<String> {
        Some("packets of this host do not pass the tables in memory".to_owned())
    }

    fn remove_service(&mut self, vip: &VipAddress) -> Result<(), DataplaneError> {
        self.engine.remove_service(vip)
    }

    fn services(&self) -> Vec<VipAddress> {
        self.engine.services.keys().copied().collect()
    }

    fn tick(&mut self) -> Result<(), DataplaneError> {
        self.engine.tick()
    }

    fn stats(&self) -> Result<Stats, DataplaneError> {
        self.engine.stats(&[(0, INTERFACE.to_owned())])
    }

    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError> {
        self.engine.flows()
    }

    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError> {
        if let Some(name) = interface.filter(|name| *name != INTERFACE) {
            return Err(DataplaneError::NoInterface {
                name: name.to_owned(),
                attached: INTERFACE.to_owned(),
            });
        }
        if !(SHORTEST..=LONGEST).contains(&frame.len()) {
            return Err(DataplaneError::FrameLength {
                length: frame.len(),
                limit: LONGEST,
            });
        }
        let mut frame = MemFrame::new(frame);
        let outcome = simulate(&mut self.engine.home.tables, &mut frame);
        let (vip, real) = self.engine.names(outcome.service, u32::from(outcome.real));
        Ok(Simulation {
            verdict: outcome.verdict,
            reason: outcome.reason,
            vip,
            real,
            chosen_by: outcome.chosen_by,
            packet: frame.bytes().to_vec(),
        })
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status();
        status.interfaces = vec![InterfaceStatus {
            name: INTERFACE.to_owned(),
            index: INTERFACE_INDEX,
            native: false,
            warning: String::new(),
        }];
        status
    }

    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        self.engine.refresh_next_hops()
    }
}
