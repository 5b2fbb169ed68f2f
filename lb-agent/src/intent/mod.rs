//! What is wanted: VIPs and reals as an operator asked for them, checked, and stored so that they survive
//! everything.
//!
//! [`model`] is the record, [`change`] what can be asked of it, [`validate`] the rules, [`store`] the disk.

pub mod change;
pub mod model;
pub mod record;
mod refusal;
pub mod store;
pub mod validate;
mod when_empty;

pub use change::{Change, RealPatch, VipPatch};
pub use model::{Intent, RealSpec, Vip, VipSpec};
pub use refusal::Refusal;
pub use when_empty::WhenEmpty;
