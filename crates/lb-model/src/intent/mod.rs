//! The intent: VIPs and reals as their owners want them.
//!
//! [`spec`] declares what can be set on a VIP and on a real. [`model`] holds them, [`change`] turns a request into a
//! new record of one VIP, [`validate`] has the rules, and [`kinds`] names the registries that know the kinds of checks,
//! load sources, controllers and ways of shedding. [`owner`] says to whom objects belong, [`follow()`] finds the changes
//! after which one owner's objects are as it wants them. Everything here is pure.

pub mod change;
pub mod follow;
pub mod kinds;
pub mod model;
pub mod owner;
mod refusal;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod validate;
mod when_empty;

pub use change::{Change, Patch};
pub use follow::{Plan, follow};
pub use kinds::Kinds;
pub use model::{Intent, Real, Vip};
pub use owner::{Owner, Writer};
pub use refusal::Refusal;
pub use spec::{DEFAULT_WEIGHT, RealSpec, VipSpec};
pub use when_empty::WhenEmpty;
