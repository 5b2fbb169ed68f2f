//! The steps of a simulated packet.

use crate::{
    lookup::Step,
    reason::{Reason, Verdict},
};

/// The one entry of [`super::names::TRACE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trace {
    /// [`crate::reason::Reason`] as a number.
    pub reason: u32,
    /// [`crate::reason::ChosenBy`] as a number.
    pub chosen_by: u32,
    /// Service index; 0: no service, or the one of echo requests.
    pub service: u32,
    /// Real index; 0: no real.
    pub real: u32,
}

impl Trace {
    /// Notes a step of the decision. [`Step::End`] clears what an earlier packet left, if no step before did.
    #[inline(always)]
    pub const fn note(&mut self, step: Step) {
        match step {
            Step::Service(service) => {
                *self = Trace {
                    reason: 0,
                    chosen_by: 0,
                    service,
                    real: 0,
                }
            }
            Step::Real(real, by) => {
                self.real = real as u32;
                self.chosen_by = by as u32;
            }
            Step::Dropped(..) | Step::Slot(..) | Step::Entry(..) => {}
            Step::End(reason) => {
                // A frame with one of these reasons was for no service.
                if matches!(reason.verdict(), Verdict::Pass) || matches!(reason, Reason::EchoReply)
                {
                    *self = Trace {
                        reason: 0,
                        chosen_by: 0,
                        service: 0,
                        real: 0,
                    };
                }
                self.reason = reason as u32;
            }
        }
    }
}

/// What a simulated packet looked up: the one entry of [`super::names::LOOKED_UP`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LookedUp {
    /// The stamp of the flow's entry in the flow table ([`super::flow::Flow::stamp`]).
    pub entry_stamp: u64,
    /// The real that the entry names; 0: no entry was found.
    pub entry_real: u32,
    /// 1 if a slot was read.
    pub has_slot: u32,
    /// Place of the slot in the ring table.
    pub slot_place: u32,
    /// The slot.
    pub slot: u32,
}

impl LookedUp {
    /// Notes a step of the decision. Nothing is cleared: the record is made empty before each simulation.
    #[inline(always)]
    pub const fn note(&mut self, step: Step) {
        match step {
            Step::Slot(place, slot) => {
                self.has_slot = 1;
                self.slot_place = place;
                self.slot = slot;
            }
            Step::Entry(real, stamp) => {
                self.entry_real = real as u32;
                self.entry_stamp = stamp;
            }
            _ => {}
        }
    }
}

const _: () = assert!(size_of::<Trace>() == 16 && size_of::<LookedUp>() == 24);
