//! The reals: their indices, those that retire, and those whose flows are shed.

use lb_common::tables::{
    next_hop::NextHop,
    real::{DELETED, DOWN, Real, SHED},
};

use super::{
    index_allocator::IndexAllocator, next_hop_table::NextHopTable, quiescence::is_quiescent,
    service_table::RealEntry,
};
use crate::{backend::TableBackend, error::DataplaneError, stats::Counters};

/// A deleted real that a flow or a packet under way may still name.
#[derive(Debug)]
pub(crate) struct RetiringReal {
    index: u16,
    service: u32,
    since: u32,
    hop: Option<NextHop>,
}

/// Which records of reals are in use.
///
/// Invariant: the index of a deleted real is used again only when its grace period is over and a sweep has
/// seen no flow that names it. Exactly the reals in `shedding` have the flag `SHED`; a budget is written
/// before the flag is set, so a packet that sees the flag sees the budget.
#[derive(Debug)]
pub(crate) struct RealTable {
    indices: IndexAllocator,
    retiring: Vec<RetiringReal>,
    shedding: Vec<u16>,
}

impl RealTable {
    /// A table without reals.
    #[must_use]
    pub fn new() -> RealTable {
        RealTable {
            indices: IndexAllocator::new(),
            retiring: Vec::new(),
            shedding: Vec::new(),
        }
    }

    /// Indices in use, those of retiring reals included.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.indices.used()
    }

    /// Entries that the table needs to have room for `more` further reals.
    #[must_use]
    pub fn table_size(&self, more: u32) -> u32 {
        self.indices.table_size(more)
    }

    /// Writes a new real's record and returns its index.
    pub fn insert<B: TableBackend>(&mut self, backend: &mut B, record: Real) -> u16 {
        let index = self.indices.allocate();
        backend.write_real(index, record);
        index as u16
    }

    /// Marks the index of an adopted real as in use.
    pub fn reserve(&mut self, index: u16, flags: u32) {
        self.indices.reserve(u32::from(index));
        if flags & SHED != 0 {
            self.shedding.push(index);
        }
    }

    /// Marks the index of an adopted record as in use that no service has.
    pub fn reserve_retiring(&mut self, index: u16, service: u32, hop: Option<NextHop>, now: u32) {
        self.indices.reserve(u32::from(index));
        self.retiring.push(RetiringReal {
            index,
            service,
            since: now,
            hop,
        });
    }

    /// Deletes a real: packets stop finding it at once, and its index is freed when nothing names it.
    pub fn retire<B: TableBackend>(
        &mut self,
        backend: &mut B,
        real: &RealEntry,
        service: u32,
        now: u32,
    ) {
        let index = u32::from(real.index);
        let flags = backend.real(index).flags & !SHED | DOWN | DELETED;
        backend.set_real_flags(index, flags);
        self.shedding.retain(|shedding| *shedding != real.index);
        self.retiring.push(RetiringReal {
            index: real.index,
            service,
            since: now,
            hop: real.hop,
        });
    }

    /// Indices of a service's retiring reals.
    pub fn retiring_of(&self, service: u32) -> impl Iterator<Item = u16> {
        self.retiring
            .iter()
            .filter(move |real| real.service == service)
            .map(|real| real.index)
    }

    /// Whether a real awaits only a sweep to be freed.
    #[must_use]
    pub fn awaits_sweep(&self, now: u32) -> bool {
        self.retiring
            .iter()
            .any(|real| is_quiescent(real.since, now))
    }

    /// Frees the retiring reals whose grace period is over and that no flow named in the last sweep;
    /// `is_named` says which reals one did. `freed` is called with the service and the last counters of each.
    ///
    /// # Errors
    /// [`DataplaneError::System`] if a counter cannot be read or cleared; that real and those after it stay.
    pub fn free_quiescent<B: TableBackend>(
        &mut self,
        backend: &mut B,
        next_hops: &mut NextHopTable,
        is_named: impl Fn(u16) -> bool,
        now: u32,
        mut freed: impl FnMut(u32, Counters),
    ) -> Result<(), DataplaneError> {
        let mut retiring = std::mem::take(&mut self.retiring).into_iter();
        while let Some(real) = retiring.next() {
            if is_named(real.index) || !is_quiescent(real.since, now) {
                self.retiring.push(real);
                continue;
            }
            let index = u32::from(real.index);
            let last = backend.real_counters(index).and_then(|last| {
                backend.clear_real_counters(index)?;
                Ok(last)
            });
            match last {
                Ok(last) => freed(real.service, last.into()),
                Err(error) => {
                    self.retiring.push(real);
                    self.retiring.extend(retiring);
                    return Err(error);
                }
            }
            if let Some(hop) = &real.hop {
                next_hops.release(hop, now);
            }
            // Last, so that an agent that dies here finds the real again.
            backend.write_real(index, Real::default());
            self.indices.release(index);
        }
        Ok(())
    }

    /// Sets how many flows of a real are to be reset; returns how many of the earlier number were left.
    pub fn set_budget<B: TableBackend>(&mut self, backend: &mut B, real: u16, flows: u32) -> u32 {
        let index = u32::from(real);
        let sheds = self.shedding.contains(&real);
        let left = if sheds { backend.budget(index) } else { 0 };
        backend.set_budget(index, i64::from(flows));
        if flows > 0 && !sheds {
            self.shedding.push(real);
            let flags = backend.real(index).flags;
            backend.set_real_flags(index, flags | SHED);
        }
        self.end_spent_budgets(backend);
        u32::try_from(left).unwrap_or(0)
    }

    /// Clears the flag of reals whose budget is spent, so that their packets no longer look at it.
    pub fn end_spent_budgets<B: TableBackend>(&mut self, backend: &mut B) {
        self.shedding.retain(|index| {
            let index = u32::from(*index);
            let goes_on = backend.budget(index) > 0;
            if !goes_on {
                let flags = backend.real(index).flags;
                backend.set_real_flags(index, flags & !SHED);
            }
            goes_on
        });
    }
}

#[cfg(test)]
mod tests {
    use lb_common::forward::IPIP;
    use lb_model::options::Forward;

    use super::*;
    use crate::memory::MemoryBackend;

    fn up() -> Real {
        Real {
            flags: IPIP.number,
            service: 1,
            ..Real::default()
        }
    }

    fn entry(index: u16) -> RealEntry {
        RealEntry {
            index,
            id: "10.0.0.1".parse().unwrap(),
            forward: Forward::Ipip,
            hop: None,
            returned: None,
            carried: false,
        }
    }

    #[test]
    fn an_index_is_freed_when_no_packet_and_no_flow_names_it() {
        let mut backend = MemoryBackend::for_tests();
        let mut table = RealTable::new();
        let mut hops = NextHopTable::new();
        let [first, second] = [(); 2].map(|()| table.insert(&mut backend, up()));
        table.retire(&mut backend, &entry(first), 1, 100);
        assert_eq!(backend.real(1).flags, IPIP.number | DOWN | DELETED);
        assert_eq!(table.retiring_of(1).collect::<Vec<_>>(), [first]);
        assert!(!table.awaits_sweep(105) && table.awaits_sweep(106));
        let mut free = |table: &mut RealTable, named: bool, now| {
            let mut freed = Vec::new();
            table
                .free_quiescent(
                    &mut backend,
                    &mut hops,
                    |_| named,
                    now,
                    |service, _| {
                        freed.push(service);
                    },
                )
                .unwrap();
            freed
        };
        assert!(free(&mut table, false, 105).is_empty());
        assert!(free(&mut table, true, 106).is_empty());
        assert_eq!(free(&mut table, false, 107), [1]);
        assert_eq!(table.used(), 1);
        assert_eq!(backend.real(1), Real::default());
        assert_eq!(table.insert(&mut backend, up()), first);
        assert_ne!(first, second);
    }

    #[test]
    fn the_flag_lasts_as_long_as_the_budget() {
        let mut backend = MemoryBackend::for_tests();
        let mut table = RealTable::new();
        let real = table.insert(&mut backend, up());
        assert_eq!(table.set_budget(&mut backend, real, 5), 0);
        assert_eq!(backend.real(1).flags, IPIP.number | SHED);
        backend.set_budget(1, 2);
        assert_eq!(table.set_budget(&mut backend, real, 3), 2);
        backend.set_budget(1, -1);
        table.end_spent_budgets(&mut backend);
        assert_eq!(backend.real(1).flags, IPIP.number);
        assert_eq!(table.set_budget(&mut backend, real, 4), 0, "-1 is none");
        assert_eq!(table.set_budget(&mut backend, real, 0), 4);
        assert_eq!(backend.real(1).flags, IPIP.number);
    }
}
