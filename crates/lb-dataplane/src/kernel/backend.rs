//! The tables in the kernel, as the engine writes them.

use std::{
    collections::HashMap,
    fs,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::Ordering,
};

use aya::maps::PerCpuValues;
use lb_common::limits::{
    FLOWS_PER_BUCKET, REASON_SLOTS, SLOTS_PER_CHUNK, TICK_SHIFT, VIPS_PER_BUCKET,
};
use lb_common::reason::Reason;
use lb_common::tables::{
    config::Config,
    counters::{FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServiceCounters},
    flow::{Bucket, Flow},
    meta::{FILTERS, Meta},
    names,
    next_hop::NextHop,
    real::{Budget, Real},
    ring::Slot,
    service::Service,
    signs::{SharedSample, SharedSigns, Signs},
};

use super::{attachments::Attachments, growth, loader, tables::KernelTables};
use crate::{
    backend::TableBackend,
    error::{DataplaneError, system},
    status::TableUse,
    table_sizes::TableSizes,
    vip_key::VipTableKey,
};

/// The tables, and the programs that read them.
pub(crate) struct KernelBackend {
    pub(super) tables: KernelTables,
    pub(super) attachments: Attachments,
    pub(super) carried: CarriedCounters,
}

/// What was counted in old tables between their copy and the moment the last program left them.
#[derive(Debug, Default)]
pub(super) struct CarriedCounters {
    /// By real index.
    pub reals: HashMap<u32, [u64; 4]>,
    /// By service index.
    pub services: HashMap<u32, [u64; 2]>,
    /// By service index.
    pub lookups: HashMap<u32, [u64; 2]>,
}

impl KernelBackend {
    /// The tables, and the programs that run on them.
    pub fn new(tables: KernelTables, attachments: Attachments) -> KernelBackend {
        KernelBackend {
            tables,
            attachments,
            carried: CarriedCounters::default(),
        }
    }

    /// The programs.
    pub fn attachments(&self) -> &Attachments {
        &self.attachments
    }
}

fn sums<const N: usize>(values: &PerCpuValues<[u64; N]>) -> [u64; N] {
    values.iter().fold([0; N], |mut sum, value| {
        for (sum, word) in sum.iter_mut().zip(value) {
            *sum += word;
        }
        sum
    })
}

/// One value of zeros for every CPU.
fn zeros<const N: usize>() -> Result<PerCpuValues<[u64; N]>, DataplaneError> {
    let cpus = aya::util::nr_cpus().map_err(|(what, error)| system(what.to_owned())(error))?;
    PerCpuValues::try_from(vec![[0; N]; cpus]).map_err(system("preparing counters"))
}

fn add<const N: usize>(mut a: [u64; N], b: Option<&[u64; N]>) -> [u64; N] {
    for (a, b) in a.iter_mut().zip(b.into_iter().flatten()) {
        *a += b;
    }
    a
}

impl TableBackend for KernelBackend {
    fn sizes(&self) -> TableSizes {
        self.tables.sizes
    }

    fn grow(&mut self, sizes: TableSizes) -> Result<(), DataplaneError> {
        growth::grow(self, sizes)
    }

    fn meta(&self) -> Meta {
        self.tables.meta.read(0)
    }

    fn declare_filters(&mut self, classes_since: u32) {
        let word = |offset| self.tables.meta.word32(0, offset);
        word(offset_of!(Meta, classes_since)).store(classes_since, Ordering::SeqCst);
        word(offset_of!(Meta, layout)).fetch_or(FILTERS, Ordering::SeqCst);
    }

    fn withdraw_filters(&mut self) {
        self.tables
            .meta
            .word32(0, offset_of!(Meta, layout))
            .fetch_and(!FILTERS, Ordering::SeqCst);
    }

    fn now(&self) -> u32 {
        ticks()
    }

    fn insert_vip(&mut self, key: VipTableKey, service: u32) -> Result<(), DataplaneError> {
        while self.tables.insert_vip(&key, service).is_err() {
            self.grow(self.tables.sizes.with_more_vips()?)?;
        }
        Ok(())
    }

    fn remove_vip(&mut self, key: VipTableKey) -> Result<(), DataplaneError> {
        self.tables.remove_vip(&key);
        Ok(())
    }

    fn vips(&self) -> Result<Vec<(VipTableKey, u32)>, DataplaneError> {
        Ok(self.tables.vips())
    }

    fn set_config_flags(&mut self, flags: u32) {
        self.tables
            .config
            .word32(0, offset_of!(Config, flags))
            .store(flags, Ordering::SeqCst);
    }

    fn service(&self, index: u32) -> Service {
        self.tables.services.read(index as usize)
    }

    fn write_service(&mut self, index: u32, service: Service) {
        self.tables.services.write(index as usize, service);
    }

    fn set_ring_place(&mut self, index: u32, place: u64) {
        self.tables
            .services
            .word64(index as usize, offset_of!(Service, ring))
            .store(place, Ordering::SeqCst);
    }

    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32) {
        let (services, index) = (&self.tables.services, index as usize);
        services
            .word32(index, offset_of!(Service, window))
            .store(window, Ordering::SeqCst);
        services
            .word32(index, offset_of!(Service, flags))
            .store(flags, Ordering::SeqCst);
    }

    fn slot(&self, index: u32) -> Slot {
        let (chunk, offset) = chunk_of(index);
        self.tables
            .rings
            .word32(chunk, offset)
            .load(Ordering::Relaxed)
    }

    fn set_slot(&mut self, index: u32, slot: Slot) {
        let (chunk, offset) = chunk_of(index);
        self.tables
            .rings
            .word32(chunk, offset)
            .store(slot, Ordering::Release);
    }

    fn real(&self, index: u32) -> Real {
        self.tables.reals.read(index as usize)
    }

    fn write_real(&mut self, index: u32, real: Real) {
        self.tables.reals.write(index as usize, real);
    }

    fn set_real_flags(&mut self, index: u32, flags: u32) {
        self.tables
            .reals
            .word32(index as usize, offset_of!(Real, flags))
            .store(flags, Ordering::SeqCst);
    }

    fn set_real_lost(&mut self, index: u32, lost: u32) {
        self.tables
            .reals
            .word32(index as usize, offset_of!(Real, lost))
            .store(lost, Ordering::SeqCst);
    }

    fn set_real_next_hop(&mut self, index: u32, next_hop: u32) {
        self.tables
            .reals
            .word32(index as usize, offset_of!(Real, next_hop))
            .store(next_hop, Ordering::SeqCst);
    }

    fn set_real_largest(&mut self, index: u32, largest: u32) {
        let word = self
            .tables
            .reals
            .word32(index as usize, offset_of!(Real, largest));
        // The packets of all CPUs read this line: it is written only if it changes.
        if word.load(Ordering::Relaxed) != largest {
            word.store(largest, Ordering::SeqCst);
        }
    }

    fn budget(&self, index: u32) -> i64 {
        self.tables
            .budgets
            .word64(index as usize, offset_of!(Budget, flows))
            .load(Ordering::Relaxed) as i64
    }

    fn set_budget(&mut self, index: u32, flows: i64) {
        self.tables
            .budgets
            .word64(index as usize, offset_of!(Budget, flows))
            .store(flows as u64, Ordering::SeqCst);
    }

    fn next_hop(&self, index: u32) -> NextHop {
        self.tables.next_hops.read(index as usize)
    }

    fn write_next_hop(&mut self, index: u32, next_hop: NextHop) {
        self.tables.next_hops.write(index as usize, next_hop);
    }

    fn sweep_flows(&self, visit: &mut dyn FnMut(Flow) -> bool) -> u64 {
        let flows = &self.tables.flows;
        let mut emptied = 0;
        for index in 0..flows.len() {
            for entry in 0..FLOWS_PER_BUCKET {
                let base = offset_of!(Bucket, flows) + entry * size_of::<Flow>();
                let word = flows.word64(index, base + offset_of!(Flow, owner));
                let owner = word.load(Ordering::Acquire);
                if owner == 0 {
                    continue;
                }
                let stamp = flows
                    .word64(index, base + offset_of!(Flow, stamp))
                    .load(Ordering::Relaxed);
                if !visit(Flow { owner, stamp })
                    && word
                        .compare_exchange(owner, 0, Ordering::SeqCst, Ordering::Relaxed)
                        .is_ok()
                {
                    emptied += 1;
                }
            }
        }
        emptied
    }

    fn real_counters(&self, index: u32) -> Result<RealCounters, DataplaneError> {
        let values = self
            .tables
            .real_counters
            .get(&index, 0)
            .map_err(system("reading the counters of a real"))?;
        let [packets, bytes, opened, closed] = add(sums(&values), self.carried.reals.get(&index));
        Ok(RealCounters {
            packets,
            bytes,
            opened,
            closed,
        })
    }

    fn all_real_counters(&self) -> Result<Vec<RealCounters>, DataplaneError> {
        let all = self.tables.all_real_counters()?;
        Ok((0..)
            .zip(all)
            .map(|(index, counters)| {
                let [packets, bytes, opened, closed] =
                    add(counters, self.carried.reals.get(&index));
                RealCounters {
                    packets,
                    bytes,
                    opened,
                    closed,
                }
            })
            .collect())
    }

    fn signs(&self, index: u32) -> Signs {
        self.tables.signs.read(index as usize)
    }

    fn sampled(&self) -> u64 {
        let samples = self.tables.samples.shared::<SharedSample>();
        let used = samples.iter().filter(|sample| sample.owner.load() != 0);
        used.count() as u64
    }

    fn clear_real_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        for sample in self.tables.samples.shared::<SharedSample>() {
            sample.forget(index as u16);
        }
        self.tables.signs.shared::<SharedSigns>()[index as usize].clear();
        self.carried.reals.remove(&index);
        self.tables
            .real_counters
            .set(index, zeros()?, 0)
            .map_err(system("clearing a real's counters"))
    }

    fn service_counters(&self, index: u32) -> Result<ServiceCounters, DataplaneError> {
        let values = self
            .tables
            .service_counters
            .get(&index, 0)
            .map_err(system("reading a service's counters"))?;
        let [dropped_packets, dropped_bytes] =
            add(sums(&values), self.carried.services.get(&index));
        Ok(ServiceCounters {
            dropped_packets,
            dropped_bytes,
        })
    }

    fn lookup_counters(&self, index: u32) -> Result<LookupCounters, DataplaneError> {
        let values = self
            .tables
            .lookups
            .get(&index, 0)
            .map_err(system("reading a service's counters of look-ups"))?;
        let [hits, misses] = add(sums(&values), self.carried.lookups.get(&index));
        Ok(LookupCounters { hits, misses })
    }

    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.carried.lookups.remove(&index);
        self.tables
            .lookups
            .set(index, zeros()?, 0)
            .map_err(system("clearing a service's counters of look-ups"))?;
        self.carried.services.remove(&index);
        self.tables
            .service_counters
            .set(index, zeros()?, 0)
            .map_err(system("clearing a service's counters"))
    }

    fn flow_counters(&self) -> Result<FlowTableCounters, DataplaneError> {
        let values = self
            .tables
            .flow_counters
            .get(&0, 0)
            .map_err(system("reading the flow table's counters"))?;
        let [inserted, evicted, hits, misses] = sums(&values);
        Ok(FlowTableCounters {
            inserted,
            evicted,
            hits,
            misses,
        })
    }

    fn flow_evictions(&self) -> Result<FlowEvictions, DataplaneError> {
        let values = self
            .tables
            .flow_evictions
            .get(&0, 0)
            .map_err(system("reading the flow table's counters of evictions"))?;
        let [opening, running, refused, pad] = sums(&values);
        Ok(FlowEvictions {
            opening,
            running,
            refused,
            pad,
        })
    }

    fn reasons(&self, interface_slot: u32) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        Reason::ALL
            .iter()
            .map(|&reason| {
                let index = interface_slot * REASON_SLOTS + reason as u32;
                let values = self
                    .tables
                    .reason_counters
                    .get(&index, 0)
                    .map_err(system("reading the counters of reasons"))?;
                Ok((reason, values.iter().sum()))
            })
            .collect()
    }

    fn tables(&self) -> Vec<TableUse> {
        loader::tables(&self.tables.sizes)
            .iter()
            .map(|&(name, entries)| {
                let bytes = self
                    .tables
                    .maps
                    .get(name)
                    .map_or(0, |map| memory_of(map.fd().as_fd().as_raw_fd()));
                let capacity = match name {
                    names::RINGS => u64::from(self.tables.sizes.ring_slots),
                    names::FLOWS => u64::from(entries) * FLOWS_PER_BUCKET as u64,
                    names::VIPS4 | names::VIPS6 => u64::from(entries) * VIPS_PER_BUCKET as u64,
                    _ => u64::from(entries),
                };
                TableUse {
                    name,
                    used: 0,
                    capacity,
                    bytes,
                }
            })
            .collect()
    }
}

/// The clock of the program's `bpf_ktime_get_coarse_ns`, in ticks.
pub(crate) fn ticks() -> u32 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    let nanos = time.map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    });
    (nanos >> TICK_SHIFT) as u32
}

/// The chunk of a slot, and the slot's offset in it.
fn chunk_of(slot: u32) -> (usize, usize) {
    (
        (slot / SLOTS_PER_CHUNK) as usize,
        (slot % SLOTS_PER_CHUNK) as usize * 4,
    )
}

/// Memory of a map in bytes; 0 if the kernel does not say.
fn memory_of(fd: i32) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}
