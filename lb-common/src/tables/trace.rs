//! What a simulated packet went through.

use crate::{
    reason::{Reason, Verdict},
    store::Step,
};

/// The one entry of [`super::names::TRACE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trace {
    /// [`crate::reason::Reason`] as a number.
    pub reason: u32,
    /// [`crate::reason::ChosenBy`] as a number.
    pub chosen_by: u32,
    /// Service index; 0 is none (or echo).
    pub service: u32,
    /// Real index; 0 is none.
    pub real: u32,
}

impl Trace {
    /// Notes a step of the decision. What an earlier packet left is gone with [`Step::End`] at the latest.
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
                // These ways out lead past every service.
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
