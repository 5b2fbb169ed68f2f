//! The services and their indices.

use std::collections::BTreeMap;

use lb_common::tables::{
    next_hop::NextHop,
    ring::Classes,
    service::{Service, TRACK_ALL},
};
use lb_model::{
    options::Forward,
    vip::{RealId, VipKey},
};

use super::{
    clock::reached, index_allocator::IndexAllocator, quiescence::Quiescing,
    service_ring::ServiceRing, tracking::Tracking,
};
use crate::{backend::TableBackend, error::DataplaneError, service::RecordTerms, stats::Counters};

/// A real of a service.
#[derive(Clone, Debug)]
pub(crate) struct RealEntry {
    /// Index of its record.
    pub index: u16,
    /// Its name.
    pub id: RealId,
    /// How packets reach it.
    pub forward: Forward,
    /// Its next hop, if it is known.
    pub hop: Option<NextHop>,
    /// When it last came back from the dead, in ticks: a flow that was not heard of since does not count as
    /// live. The flows that it had are gone, were moved or were reset, and their ends were not all seen,
    /// because what a server sends to its clients does not pass the balancer. Its record says how many they
    /// were, for the next agent as well; it does not say when that was.
    pub returned: Option<u32>,
    /// Whether it is known to have carried a packet of the service.
    pub carried: bool,
}

impl RealEntry {
    /// Whether it has carried a packet of the service.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading its counters.
    pub fn has_carried<B: TableBackend>(&mut self, backend: &B) -> Result<bool, DataplaneError> {
        if !self.carried {
            self.carried = backend.real_counters(u32::from(self.index))?.packets > 0;
        }
        Ok(self.carried)
    }
}

/// What is known of a service beyond its record.
#[derive(Debug)]
pub(crate) struct ServiceEntry {
    /// Index of its record.
    pub index: u32,
    /// Its name.
    pub vip: VipKey,
    /// Whether packets may be translated: a real of it has mode `nat`.
    pub translates: bool,
    /// Which flows get an entry in the flow table.
    pub tracking: Tracking,
    /// What is done with its packets.
    pub terms: RecordTerms,
    /// How long an idle flow keeps its real and a changed slot its previous one, in ticks.
    pub window: u32,
    /// Its reals, in the order of the last change.
    pub reals: Vec<RealEntry>,
    /// Its slots.
    pub ring: ServiceRing,
    /// Counters of its deleted reals.
    pub retired: Counters,
}

impl ServiceEntry {
    /// [`Service::flags`].
    #[must_use]
    pub fn flags(&self) -> u32 {
        let tracks = if self.tracking.is_total() {
            TRACK_ALL
        } else {
            0
        };
        tracks | self.terms.flags
    }

    /// Whether a packet of the service was seen to be forwarded since it was added. No counter is read.
    fn is_known_to_carry(&self) -> bool {
        // Packets of retiring reals are added when they are freed; until then they are not looked at.
        self.retired.packets > 0 || self.reals.iter().any(|real| real.carried)
    }

    /// Whether a packet of the service was forwarded since it was added.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading counters.
    pub fn carries_packets<B: TableBackend>(
        &mut self,
        backend: &B,
    ) -> Result<bool, DataplaneError> {
        if self.is_known_to_carry() {
            return Ok(true);
        }
        for real in &mut self.reals {
            if real.has_carried(backend)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the windows of slots whose previous real has never carried a packet of the service.
    ///
    /// The first window of a service that carries nothing is one in which it is built. Later such a service is that of
    /// a balancer that stands by, and another one has the flows: they may belong to these reals all the same.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading counters.
    pub fn end_quiet_windows<B: TableBackend>(
        &mut self,
        backend: &mut B,
        now: u32,
    ) -> Result<(), DataplaneError> {
        let stands_by =
            self.is_past_first_window(backend, now) && !self.carries_packets(backend)?;
        let reals = &mut self.reals;
        // A counter is read once, not for each slot.
        let mut known = BTreeMap::new();
        let has_carried = |backend: &B, index: u16| {
            if let Some(carried) = known.get(&index) {
                return Ok(*carried);
            }
            let carried = match reals.iter_mut().find(|real| real.index == index) {
                Some(real) if !stands_by => real.has_carried(backend)?,
                _ => true,
            };
            known.insert(index, carried);
            Ok(carried)
        };
        self.ring.end_quiet_windows(backend, has_carried, now)
    }

    fn is_past_first_window<B: TableBackend>(&self, backend: &B, now: u32) -> bool {
        let made = backend.service(self.index).made;
        reached(now, made.wrapping_add(self.window))
    }

    /// Whether slots settle as soon as it is certain that the service has carried no packet: see
    /// [`Self::settle_unused`].
    pub fn awaits_settling<B: TableBackend>(&self, backend: &B, now: u32) -> bool {
        self.ring.unsettled() > 0
            && !self.tracking.is_total()
            && !self.is_known_to_carry()
            && !self.is_past_first_window(backend, now)
    }

    /// Settles the slots of a service that has carried no packet, in two steps, each of which waits for the packets
    /// under way: a window ends, and a slot without a window settles. No sweep is needed: a flow becomes an exception by
    /// one of its packets, and there was none.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading counters.
    pub fn settle_unused<B: TableBackend>(
        &mut self,
        backend: &mut B,
        now: u32,
    ) -> Result<(), DataplaneError> {
        self.end_quiet_windows(backend, now)?;
        // Counters are read after `now`: packets that saw a slot in its window are counted.
        if !self.tracking.is_total() && !self.carries_packets(backend)? {
            self.ring.has_no_stamps();
            let none = vec![Classes::NONE; self.ring.slots() as usize];
            self.ring.settle(backend, &none, now);
        }
        Ok(())
    }

    /// The real with this address.
    #[must_use]
    pub fn real(&self, id: RealId) -> Option<&RealEntry> {
        self.reals.iter().find(|real| real.id == id)
    }
}

/// The services by name.
///
/// Invariant: every service has an index of its own; the index of a removed one is used again only when its
/// grace period is over and no retiring real names it.
#[derive(Debug)]
pub(crate) struct ServiceTable {
    entries: BTreeMap<VipKey, ServiceEntry>,
    indices: IndexAllocator,
    /// Indices of removed services.
    quiescing: Quiescing<u32>,
}

impl ServiceTable {
    /// A table without services.
    #[must_use]
    pub fn new() -> ServiceTable {
        ServiceTable {
            entries: BTreeMap::new(),
            indices: IndexAllocator::new(),
            quiescing: Quiescing::default(),
        }
    }

    /// The service of this name.
    #[must_use]
    pub fn get(&self, vip: &VipKey) -> Option<&ServiceEntry> {
        self.entries.get(vip)
    }

    /// The service of this name.
    pub fn get_mut(&mut self, vip: &VipKey) -> Option<&mut ServiceEntry> {
        self.entries.get_mut(vip)
    }

    /// Whether there is a service of this name.
    #[must_use]
    pub fn contains(&self, vip: &VipKey) -> bool {
        self.entries.contains_key(vip)
    }

    /// The service with this index.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<&ServiceEntry> {
        self.iter().find(|entry| entry.index == index)
    }

    /// The service with this index.
    pub fn by_index_mut(&mut self, index: u32) -> Option<&mut ServiceEntry> {
        self.iter_mut().find(|entry| entry.index == index)
    }

    /// Every service, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.entries.values()
    }

    /// Every service, by name.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ServiceEntry> {
        self.entries.values_mut()
    }

    /// Names of the services, in order.
    pub fn names(&self) -> impl Iterator<Item = &VipKey> {
        self.entries.keys()
    }

    /// Number of services.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Indices in use, those in their grace period included.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.indices.used()
    }

    /// Entries that the table needs to have room for `more` further services.
    #[must_use]
    pub fn table_size(&self, more: u32) -> u32 {
        self.indices.table_size(more)
    }

    /// Takes an index for a new service.
    pub fn allocate(&mut self) -> u32 {
        self.indices.allocate()
    }

    /// Gives back an index that no service was inserted with and no packet has seen.
    pub fn give_back(&mut self, index: u32) {
        self.indices.release(index);
    }

    /// Marks the index of an adopted service as in use.
    pub fn reserve(&mut self, index: u32) {
        self.indices.reserve(index);
    }

    /// Adds a service, whose index was allocated or reserved.
    pub fn insert(&mut self, entry: ServiceEntry) {
        self.entries.insert(entry.vip, entry);
    }

    /// Removes a service that packets can no longer find since `now`.
    pub fn remove(&mut self, vip: &VipKey, now: u32) -> Option<ServiceEntry> {
        let entry = self.entries.remove(vip)?;
        self.quiescing.insert(entry.index, now);
        Some(entry)
    }

    /// Clears the records of removed services whose grace period is over, and frees their indices;
    /// `is_named` says whether a real that is not yet freed still names one.
    pub fn release_quiescent<B: TableBackend>(
        &mut self,
        backend: &mut B,
        is_named: impl Fn(u32) -> bool,
        now: u32,
    ) {
        let indices = &mut self.indices;
        self.quiescing.release(now, |&index| {
            let free = !is_named(index);
            if free {
                backend.write_service(index, Service::default());
                indices.release(index);
            }
            free
        });
    }
}

#[cfg(test)]
mod tests {
    use lb_common::tables::service::RESET_EMPTY;
    use lb_model::vip::Protocol;

    use super::*;
    use crate::memory::MemoryBackend;

    fn entry(vip: &str, index: u32) -> ServiceEntry {
        ServiceEntry {
            index,
            vip: vip.parse().unwrap(),
            translates: false,
            tracking: Tracking::new(Protocol::Tcp, false, 60, 0),
            terms: RecordTerms::default(),
            window: 60,
            reals: Vec::new(),
            ring: ServiceRing::new(0),
            retired: Counters::default(),
        }
    }

    #[test]
    fn an_index_is_used_again_when_no_packet_and_no_real_names_it() {
        let mut backend = MemoryBackend::for_tests();
        let mut table = ServiceTable::new();
        let index = table.allocate();
        table.insert(entry("10.0.0.1:80/tcp", index));
        backend.write_service(
            index,
            Service {
                window: 60,
                ..Service::default()
            },
        );
        assert_eq!(table.by_index(index).unwrap().index, index);
        let vip = "10.0.0.1:80/tcp".parse().unwrap();
        assert!(table.remove(&vip, 100).is_some() && table.remove(&vip, 100).is_none());
        assert!(!table.contains(&vip));
        table.release_quiescent(&mut backend, |_| false, 105);
        table.release_quiescent(&mut backend, |_| true, 106);
        assert_eq!((table.used(), backend.service(index).window), (1, 60));
        table.release_quiescent(&mut backend, |_| false, 107);
        assert_eq!((table.used(), backend.service(index).window), (0, 0));
        assert_eq!(table.allocate(), index);
    }

    #[test]
    fn flags_say_what_is_tracked_and_reset() {
        let mut entry = entry("10.0.0.1:80/tcp", 1);
        assert_eq!(entry.flags(), 0);
        entry.terms.flags |= RESET_EMPTY;
        entry.tracking.set_all(true, 60, 0);
        assert_eq!(entry.flags(), RESET_EMPTY | TRACK_ALL);
    }
}
