//! What is true: health probes and load readers of every VIP that has any, and the controller that makes
//! weights of what they find.
//!
//! One task, the [`supervisor`], hears of changes of the intent, of probes and of readers, steps the
//! controllers ([`lb_steering`]) once a period or when health changes, and gives what they decide to the owner
//! ([`crate::control`]). It does no waiting of its own on peers: each probe and reader is a task.

mod figures;
mod found;
mod pace;
mod readings;
mod supervisor;
mod tasks;
mod watch;

pub use figures::{AllFigures, ProbeCounts, ReaderFigures, RealFigures, VipFigures};
pub use found::{Found, FoundReals, ProbeFound, ReadingFound};
pub use supervisor::{Handle, start};
