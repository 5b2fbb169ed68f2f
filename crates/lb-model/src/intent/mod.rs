//! The intent: VIPs and reals as their owners want them.
//!
//! [`spec`] declares what can be set on a VIP and on a real. [`model`] holds them, [`change`] turns a request into a
//! new record of one VIP, [`validate`] has the rules, and [`kinds`] names the registries that know the kinds of checks,
//! load sources, controllers and ways of shedding. Everything here is pure.

pub mod change;
pub mod kinds;
pub mod model;
mod refusal;
pub mod spec;
pub mod validate;
mod when_empty;

pub use change::{Change, Patch};
pub use kinds::Kinds;
pub use model::{Intent, Vip};
pub use refusal::Refusal;
pub use spec::{RealSpec, VipSpec};
pub use when_empty::WhenEmpty;
