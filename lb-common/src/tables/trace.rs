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
            Step::Dropped(..) => {}
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
