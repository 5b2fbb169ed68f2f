//! The tables in the kernel, as the engine writes them.

use std::{
    collections::HashMap,
    fs,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::Ordering,
};

use aya::maps::{MapError, PerCpuValues, lpm_trie::Key};
use lb_common::flow_limits::FlowLimits;
use lb_common::limits::{
    DECAPSULATED_SLOT, FLOWS_PER_BUCKET, REASON_SLOTS, SLOTS_PER_CHUNK, TICK_SHIFT, VIPS_PER_BUCKET,
};
use lb_common::reason::Reason;
use lb_common::tables::{
    config::Config,
    counters::{
        FlowEvictions, FlowTableCounters, LookupCounters, RealCounters, ServerIdCounters,
        ServiceCounters,
    },
    flow::{Bucket, Flow},
    meta::{FILTERS, Meta},
    names,
    nat::{NatEntry, NatKey, NatSettings, is_alive, protocol_of},
    next_hop::NextHop,
    real::{Budget, Real},
    ring::Slot,
    server_id::{QuicLb, ServerIdKey},
    service::Service,
    signs::{SharedSample, SharedSigns, Signs},
    source_rule::SourceKey,
    wide::{PortSet, WideKey},
};

use super::{
    attachments::Attachments,
    growth, loader,
    tables::{ID_WORDS, KernelTables, QUIC_LB_WORDS},
};
use crate::{
    backend::TableBackend,
    error::{DataplaneError, system},
    status::TableUse,
    table_sizes::TableSizes,
    vip_key::VipTableKey,
};

/// The word of [`NatEntry::state`] in an entry.
const STATE_WORD: usize = offset_of!(NatEntry, state) / 8;

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
    /// By service index.
    pub server_ids: HashMap<u32, [u64; 2]>,
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

/// The data of a key of [`names::WIDE`] as the kernel has it.
fn wide_bytes(key: &WideKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&[key.family, key.protocol]);
    bytes[4..].copy_from_slice(&key.address);
    bytes
}

/// See [`wide_bytes`].
fn wide_key(bits: u32, bytes: [u8; 20]) -> WideKey {
    let [family, protocol, _, _, address @ ..] = bytes;
    WideKey {
        bits,
        family,
        protocol,
        pad: [0; 2],
        address,
    }
}

/// The data of a key of [`names::SOURCE_RULES`] as the kernel has it.
fn source_bytes(key: &SourceKey) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&key.service.to_ne_bytes());
    bytes[4..].copy_from_slice(&key.address);
    bytes
}

/// See [`source_bytes`].
fn source_key(bits: u32, bytes: [u8; 20]) -> SourceKey {
    let [a, b, c, d, address @ ..] = bytes;
    SourceKey {
        bits,
        service: u32::from_ne_bytes([a, b, c, d]),
        address,
    }
}

/// Two numbers that stand beside each other in a record.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// A key of [`names::SERVER_IDS`] as the kernel has it.
fn id_words(key: &ServerIdKey) -> [u64; ID_WORDS] {
    [key.id[0], key.id[1], pair(key.service, key.pad)]
}

/// See [`id_words`].
fn id_key([high, low, service]: [u64; ID_WORDS]) -> ServerIdKey {
    let [a, b, c, d, ..] = service.to_ne_bytes();
    ServerIdKey {
        id: [high, low],
        service: u32::from_ne_bytes([a, b, c, d]),
        pad: 0,
    }
}

/// A value of [`names::QUIC_LB`] as the kernel has it.
fn quic_lb_words(config: &QuicLb) -> [u64; QUIC_LB_WORDS] {
    let mut words = [0; QUIC_LB_WORDS];
    words[..2].copy_from_slice(&config.left);
    words[2..4].copy_from_slice(&config.right);
    let (keys, _) = config.keys.0.as_chunks();
    for (word, [first, second]) in words[4..].iter_mut().zip(keys) {
        *word = pair(*first, *second);
    }
    words[QUIC_LB_WORDS - 2] = pair(config.mode, config.length);
    words[QUIC_LB_WORDS - 1] = pair(config.behind, config.passes);
    words
}

fn sums<const N: usize>(values: &PerCpuValues<[u64; N]>) -> [u64; N] {
    values.iter().fold([0; N], |mut sum, value| {
        for (sum, word) in sum.iter_mut().zip(value) {
            *sum += word;
        }
        sum
    })
}

/// What came of removing a key; it need not have been there.
fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
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

impl KernelBackend {
    /// A counter of an interface's frames, all CPUs together.
    fn frames(&self, interface_slot: u32, counter: u32) -> Result<u64, DataplaneError> {
        let index = interface_slot * REASON_SLOTS + counter;
        let values = self
            .tables
            .reason_counters
            .get(&index, 0)
            .map_err(system("reading the counters of reasons"))?;
        Ok(values.iter().sum())
    }
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

    fn wide(&self) -> Result<Vec<(u32, WideKey, u32)>, DataplaneError> {
        let mut wide = Vec::new();
        for entry in &self.tables.wide {
            let (key, set) = entry.map_err(system("reading the prefixes of VIPs"))?;
            wide.push((
                key.prefix_len(),
                wide_key(key.prefix_len(), key.data()),
                set,
            ));
        }
        Ok(wide)
    }

    fn insert_wide(&mut self, bits: u32, key: &WideKey, set: u32) -> Result<(), DataplaneError> {
        self.tables
            .wide
            .insert(&Key::new(bits, wide_bytes(key)), set, 0)
            .map_err(system("adding a prefix of VIPs"))
    }

    fn remove_wide(&mut self, bits: u32, key: &WideKey) -> Result<(), DataplaneError> {
        removed(self.tables.wide.remove(&Key::new(bits, wide_bytes(key))))
            .map_err(system("removing a prefix of VIPs"))
    }

    fn port_set(&self, index: u32) -> PortSet {
        self.tables.port_sets.read(index as usize)
    }

    fn write_port_set(&mut self, index: u32, set: PortSet) {
        self.tables.port_sets.write(index as usize, set);
    }

    fn set_config_flags(&mut self, flags: u32) {
        self.tables
            .config
            .word32(0, offset_of!(Config, flags))
            .store(flags, Ordering::SeqCst);
    }

    fn set_nat_settings(&mut self, settings: NatSettings) {
        self.tables.nat_settings.write(0, settings);
    }

    fn sweep_nat(&mut self) -> u64 {
        let now = ticks();
        let mut left = 0;
        // A removed key ends the walk of the kernel from key to key, so all are read first.
        let keys: Vec<[u64; 5]> = self
            .tables
            .nat_flows
            .keys()
            .filter_map(Result::ok)
            .collect();
        for key in keys {
            // It may have given way meanwhile.
            let Ok(entry) = self.tables.nat_flows.get(&key, 0) else {
                continue;
            };
            let is_tcp = protocol_of(kind_of(&key)) == 6;
            if is_alive(entry[STATE_WORD], is_tcp, now) {
                left += 1;
            } else {
                let _ = self.tables.nat_flows.remove(&key);
            }
        }
        left
    }

    fn server_ids(&self) -> Result<Vec<(ServerIdKey, u32)>, DataplaneError> {
        self.tables
            .server_ids
            .iter()
            .map(|entry| entry.map(|(key, real)| (id_key(key), real)))
            .collect::<Result<_, MapError>>()
            .map_err(system("reading the server ids"))
    }

    fn insert_server_id(&mut self, key: &ServerIdKey, real: u32) -> Result<(), DataplaneError> {
        self.tables
            .server_ids
            .insert(id_words(key), real, 0)
            .map_err(system("adding a server id"))
    }

    fn remove_server_id(&mut self, key: &ServerIdKey) -> Result<(), DataplaneError> {
        removed(self.tables.server_ids.remove(&id_words(key)))
            .map_err(system("removing a server id"))
    }

    fn source_rules(&self) -> Result<Vec<(SourceKey, u32)>, DataplaneError> {
        let mut rules = Vec::new();
        for entry in &self.tables.source_rules {
            let (key, rule) = entry.map_err(system("reading the source rules"))?;
            rules.push((source_key(key.prefix_len(), key.data()), rule));
        }
        Ok(rules)
    }

    fn insert_source_rule(&mut self, key: &SourceKey, rule: u32) -> Result<(), DataplaneError> {
        self.tables
            .source_rules
            .insert(&Key::new(key.bits, source_bytes(key)), rule, 0)
            .map_err(system("adding a source rule"))
    }

    fn remove_source_rule(&mut self, key: &SourceKey) -> Result<(), DataplaneError> {
        let key = Key::new(key.bits, source_bytes(key));
        removed(self.tables.source_rules.remove(&key)).map_err(system("removing a source rule"))
    }

    fn quic_lb(&self) -> Result<Vec<u32>, DataplaneError> {
        self.tables
            .quic_lb
            .keys()
            .collect::<Result<_, MapError>>()
            .map_err(system("reading the configurations of QUIC-LB"))
    }

    fn insert_quic_lb(&mut self, key: u32, config: &QuicLb) -> Result<(), DataplaneError> {
        self.tables
            .quic_lb
            .insert(key, quic_lb_words(config), 0)
            .map_err(system("adding a configuration of QUIC-LB"))
    }

    fn remove_quic_lb(&mut self, key: u32) -> Result<(), DataplaneError> {
        removed(self.tables.quic_lb.remove(&key))
            .map_err(system("removing a configuration of QUIC-LB"))
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

    fn set_service_terms(&mut self, index: u32, flags: u32, window: u32, limits: &FlowLimits) {
        let (services, index) = (&self.tables.services, index as usize);
        for (number, word) in limits.words().into_iter().enumerate() {
            services
                .word64(index, offset_of!(Service, limits) + number * 8)
                .store(word, Ordering::SeqCst);
        }
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

    fn server_id_counters(&self, index: u32) -> Result<ServerIdCounters, DataplaneError> {
        let values = self
            .tables
            .server_id_counters
            .get(&index, 0)
            .map_err(system("reading a service's counters of server ids"))?;
        let [known, unknown] = add(sums(&values), self.carried.server_ids.get(&index));
        Ok(ServerIdCounters { known, unknown })
    }

    fn clear_service_counters(&mut self, index: u32) -> Result<(), DataplaneError> {
        self.carried.server_ids.remove(&index);
        self.tables
            .server_id_counters
            .set(index, zeros()?, 0)
            .map_err(system("clearing a service's counters of server ids"))?;
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
            .map(|&reason| Ok((reason, self.frames(interface_slot, reason as u32)?)))
            .collect()
    }

    fn decapsulated(&self, interface_slot: u32) -> Result<u64, DataplaneError> {
        self.frames(interface_slot, DECAPSULATED_SLOT)
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

/// [`NatKey::kind`] of a key.
fn kind_of(key: &[u64; 5]) -> u32 {
    const WORD: usize = offset_of!(NatKey, kind) / 8;
    const { assert!(offset_of!(NatKey, kind) % 8 == 4) };
    let [.., a, b, c, d] = key[WORD].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Memory of a map in bytes; 0 if the kernel does not say.
fn memory_of(fd: i32) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0)
}
