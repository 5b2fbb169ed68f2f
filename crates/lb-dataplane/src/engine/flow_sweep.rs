//! The sweep of the flow table: frees dead entries and finds the slots that still have exceptions.
//!
//! A slot may be settled when no live entry of the flow table is an exception in it, that is, none names
//! another real than the slot. An entry's stamp holds the top bits of its flow's ring hash, so its slot is
//! known whatever the ring's size, and its class. No exception can arise in a slot whose window is over (what is
//! remembered there has the slot's own real), so a sweep that began after the window's end, and after the
//! packets under way then, has seen them all. What it has not seen is gone: a slot without exceptions is settled, and
//! the flows of classes without one no longer look up the table.

use std::time::Instant;

use lb_common::{
    limits::CLOSING_TICKS,
    tables::{
        flow::{CLOSING, Flow, HALF_OPEN, PROVISIONAL, real_of, ring_bits},
        real::DOWN,
        ring::{Classes, class_of, real_of as real_of_slot},
    },
};

use super::{clock::reached, flood_watch::Provisional, service_table::ServiceTable};
use crate::{backend::TableBackend, error::DataplaneError};

/// Time between two sweeps at least, in ticks (1 s).
const SWEEP_TICKS: u32 = 60;
/// Sweeping takes at most one part in this of a core's time.
const SWEEP_SHARE: u32 = 500;

/// When to sweep, and what the last sweep counted.
#[derive(Debug, Default)]
pub(crate) struct FlowSweep {
    /// The next sweep begins no earlier, in ticks.
    not_before: u32,
    /// Entries that were made or evicted until the last check.
    changes: u64,
    /// Live entries in the last sweep.
    used: u64,
    /// The provisional ones among them by service, the largest number first.
    provisional: Vec<Provisional>,
    /// Whether there was a sweep.
    swept: bool,
}

/// What a sweep found.
pub(crate) struct SweepResult {
    /// For each service in the table's order, the classes of the exceptions in each of its slots.
    exceptions: Vec<Vec<Classes>>,
    /// By real index, whether an entry named a real of no service. Such entries were freed; a packet that
    /// has read one may still follow it.
    orphaned: Vec<bool>,
}

impl SweepResult {
    /// For each service in the table's order, the classes of the exceptions in each of its slots.
    pub fn exceptions(&self) -> &[Vec<Classes>] {
        &self.exceptions
    }

    /// Whether there is any exception.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
            .iter()
            .flatten()
            .any(|classes| !classes.is_empty())
    }

    /// Whether an entry named this real, which has no service.
    #[must_use]
    pub fn was_named(&self, real: u16) -> bool {
        self.orphaned
            .get(usize::from(real))
            .copied()
            .unwrap_or(false)
    }
}

/// What a sweep must know of each real.
#[derive(Clone, Copy, Default)]
struct Owner {
    /// How long its entries live, in ticks; 0: it has no service.
    window: u32,
    /// Its service's slots.
    first_slot: u32,
    slots: u32,
    /// Position of its service in the table.
    service: usize,
    /// Its entries do not count.
    is_down: bool,
}

impl FlowSweep {
    /// Live entries, as of the last sweep.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Provisional entries by service, as of the last sweep, the largest number first.
    #[must_use]
    pub fn provisional(&self) -> &[Provisional] {
        &self.provisional
    }

    /// Whether there is something to sweep for and the last sweep is long enough ago. A sweep that frees a
    /// deleted real (`urgent`) does not wait.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading the flow table's counters.
    pub fn is_due<B: TableBackend>(
        &mut self,
        backend: &B,
        services: &ServiceTable,
        urgent: bool,
        now: u32,
    ) -> Result<bool, DataplaneError> {
        if urgent {
            return Ok(true);
        }
        if self.swept && !reached(now, self.not_before) {
            return Ok(false);
        }
        let counters = backend.flow_counters()?;
        let changes = counters.inserted + counters.evicted;
        let changed = changes != self.changes || !self.swept;
        self.changes = changes;
        let unsettled = services
            .iter()
            .any(|entry| !entry.tracking.is_total() && entry.ring.unsettled() > 0);
        Ok(changed || self.used > 0 || unsettled)
    }

    /// Frees the entries that are past their window or name a real that is down or of no service. The class of an entry is known if it
    /// was stamped at `classes_since` or later.
    pub fn run<B: TableBackend>(
        &mut self,
        backend: &B,
        services: &ServiceTable,
        classes_since: u32,
        now: u32,
    ) -> SweepResult {
        let began = Instant::now();
        let mut owners = vec![Owner::default(); backend.sizes().reals as usize];
        let mut exceptions = Vec::with_capacity(services.len());
        for (service, entry) in services.iter().enumerate() {
            let owner = Owner {
                window: entry.window.max(1),
                first_slot: entry.ring.first_slot(),
                slots: entry.ring.slots(),
                service,
                is_down: false,
            };
            for real in &entry.reals {
                let flags = backend.real(u32::from(real.index)).flags;
                owners[usize::from(real.index)] = Owner {
                    is_down: flags & DOWN != 0,
                    ..owner
                };
            }
            exceptions.push(vec![Classes::NONE; owner.slots as usize]);
        }
        let mut orphaned = vec![false; owners.len()];
        let mut provisional = vec![0; services.len()];
        let mut used = 0;
        backend.sweep_flows(&mut |flow: Flow| {
            let real = usize::from(real_of(flow.owner));
            let owner = owners.get(real).copied().unwrap_or_default();
            if owner.window == 0 {
                if let Some(orphaned) = orphaned.get_mut(real) {
                    *orphaned = true;
                }
                return false;
            }
            // The entry of a real that is down must not count again when it comes back: its flow has moved.
            if owner.is_down || !is_alive(&flow, now, owner.window) {
                return false;
            }
            used += 1;
            provisional[owner.service] += u64::from(flow.stamp & PROVISIONAL != 0);
            if owner.slots != 0 {
                let slot =
                    ((u64::from(ring_bits(flow.stamp)) * u64::from(owner.slots)) >> 20) as u32;
                if usize::from(real_of_slot(backend.slot(owner.first_slot + slot))) != real {
                    let classes = &mut exceptions[owner.service][slot as usize];
                    *classes = classes.or(classes_of(&flow, classes_since, now));
                }
            }
            true
        });
        self.used = used;
        self.provisional = services
            .iter()
            .zip(provisional)
            .filter(|&(_, entries)| entries > 0)
            .map(|(service, entries)| Provisional {
                vip: service.vip,
                entries,
            })
            .collect();
        self.provisional
            .sort_by_key(|of| std::cmp::Reverse(of.entries));
        self.swept = true;
        let spent = u32::try_from(began.elapsed().as_millis() / 17).unwrap_or(u32::MAX);
        self.not_before = now.wrapping_add(
            spent
                .saturating_mul(SWEEP_SHARE)
                .clamp(SWEEP_TICKS, 1 << 20),
        );
        SweepResult {
            exceptions,
            orphaned,
        }
    }
}

/// The classes that an entry's flow may be of. Programs of earlier builds did not stamp the class.
#[must_use]
fn classes_of(flow: &Flow, classes_since: u32, now: u32) -> Classes {
    // A stamp may be a tick from the future. All live stamps are younger than half of the clock's range.
    let age = now.wrapping_add(1).wrapping_sub(flow.stamp as u32);
    if reached(now, classes_since) && age <= now.wrapping_sub(classes_since) {
        Classes::only(class_of(flow.stamp))
    } else {
        Classes::ALL
    }
}

/// Whether an entry of a service with this window counts; the program decides likewise.
#[must_use]
pub(crate) fn is_alive(flow: &Flow, now: u32, window: u32) -> bool {
    let age = now.wrapping_sub(flow.stamp as u32);
    // The clock of another CPU may be a tick ahead.
    let age = if age > u32::MAX / 2 { 0 } else { age };
    age <= if flow.stamp & (CLOSING | HALF_OPEN) != 0 {
        CLOSING_TICKS
    } else {
        window
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use lb_common::{forward::IPIP, tables::flow::owner};
    use lb_model::{options::Forward, vip::Protocol};

    use super::*;
    use crate::{
        engine::{
            ring_space::RingSpace,
            service_ring::{NewRing, ServiceRing},
            service_table::{RealEntry, ServiceEntry},
            slot::RingChange,
            tracking::Tracking,
        },
        memory::MemoryBackend,
        service::RecordTerms,
        stats::Counters,
    };

    const WINDOW: u32 = 60;
    const SLOTS: u32 = 256;

    /// A service of the reals 1 and 2 whose slots all belong to real 1.
    fn services(backend: &mut MemoryBackend) -> ServiceTable {
        let mut ring = ServiceRing::new(0);
        let new = NewRing {
            slots: SLOTS,
            real: |_| 1,
            change: RingChange {
                removed: &[],
                tracks_every_flow: false,
                knows_every_flow: false,
                rehashes: false,
            },
            window: WINDOW,
        };
        ring.update(backend, &mut RingSpace::default(), 1, &new, 0);
        let real = |index| RealEntry {
            index,
            id: IpAddr::from([10, 1, 0, index as u8]).into(),
            forward: Forward::Ipip,
            hop: None,
            returned: None,
            carried: false,
        };
        let mut services = ServiceTable::new();
        let index = services.allocate();
        services.insert(ServiceEntry {
            index,
            vip: "10.0.0.1:80/tcp".parse().unwrap(),
            translates: false,
            tracking: Tracking::new(Protocol::Tcp, false, WINDOW, 0),
            terms: RecordTerms::default(),
            window: WINDOW,
            reals: vec![real(1), real(2)],
            ring,
            retired: Counters::default(),
        });
        services
    }

    /// An entry of a real in a slot, last heard of at this time.
    fn flow(real: u16, slot: u64, heard: u32) -> Flow {
        Flow {
            owner: owner(1 + slot, real),
            stamp: (slot << 8) << 48 | u64::from(heard),
        }
    }

    #[test]
    fn a_sweep_frees_dead_entries_and_finds_exceptions() {
        let mut backend = MemoryBackend::for_tests();
        let mut services = services(&mut backend);
        let down = RealEntry {
            index: 3,
            ..services.iter().next().unwrap().reals[0].clone()
        };
        backend.set_real_flags(3, IPIP.number | DOWN);
        services.iter_mut().next().unwrap().reals.push(down);
        for (bucket, flow) in [
            flow(3, 8, 990),
            flow(1, 3, 990),
            flow(2, 4, 990),
            flow(2, 5, 1_000 - WINDOW),
            flow(2, 6, 999 - WINDOW),
            flow(9, 7, 990),
        ]
        .into_iter()
        .enumerate()
        {
            backend.put_flow(bucket, flow);
        }
        let mut sweep = FlowSweep::default();
        let result = sweep.run(&backend, &services, 0, 1_000);
        assert_eq!(
            sweep.used(),
            3,
            "one is too old, one names no service's real, one a real that is down"
        );
        let found: Vec<usize> = (0..SLOTS as usize)
            .filter(|&slot| !result.exceptions()[0][slot].is_empty())
            .collect();
        assert_eq!(found, [4, 5], "real 1 is no exception in its own slot");
        assert!(result.was_named(9) && !result.was_named(1));
        let again = sweep.run(&backend, &services, 0, 1_000);
        assert!(!again.was_named(9), "its entry was freed");
    }

    #[test]
    fn the_class_of_an_exception_is_known_if_a_program_of_this_build_stamped_it() {
        let mut backend = MemoryBackend::for_tests();
        let services = services(&mut backend);
        let class = |mut flow: Flow, hash: u64| {
            flow.stamp |= hash << 44;
            flow
        };
        for (bucket, flow) in [
            class(flow(2, 4, 980), 3),
            class(flow(2, 4, 999), 9),
            class(flow(2, 5, 949), 3),
            // Another CPU's clock is ahead.
            class(flow(2, 6, 1_001), 15),
        ]
        .into_iter()
        .enumerate()
        {
            backend.put_flow(bucket, flow);
        }
        let found = |since| {
            let result = FlowSweep::default().run(&backend, &services, since, 1_000);
            [3, 4, 5, 6].map(|slot: usize| result.exceptions()[0][slot])
        };
        let [first, second] = [3, 9].map(|value| Classes::only(class_of(value << 44)));
        let both = first.or(second);
        let last = Classes::only(14);
        assert_eq!(found(950), [Classes::NONE, both, Classes::ALL, last]);
        assert_eq!(found(949), [Classes::NONE, both, Classes::ALL, last]);
        assert_eq!(found(948), [Classes::NONE, both, first, last]);
        assert_eq!(found(990)[1], Classes::ALL);
        // Not yet, and long ago.
        assert_eq!(found(1_006)[3], Classes::ALL);
        assert_eq!(found(1_001_u32.wrapping_sub(u32::MAX / 2))[2], first);
    }

    #[test]
    fn sweeps_wait_for_each_other_but_not_when_a_real_is_to_be_freed() {
        let mut backend = MemoryBackend::for_tests();
        let services = services(&mut backend);
        let mut sweep = FlowSweep::default();
        let due = |sweep: &mut FlowSweep, urgent, now| {
            sweep.is_due(&backend, &services, urgent, now).unwrap()
        };
        assert!(due(&mut sweep, false, 0), "the first one");
        sweep.run(&backend, &services, 0, 0);
        assert!(!due(&mut sweep, false, SWEEP_TICKS - 1));
        assert!(due(&mut sweep, true, 1));
        assert!(
            !due(&mut sweep, false, 1 << 21),
            "there is nothing to sweep for"
        );
    }
}
