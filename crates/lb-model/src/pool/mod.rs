//! Pools: sets of interchangeable instances that a controller operates and scales.

mod launch;
mod name;
mod placement;
mod range;
mod size;
mod spec;
mod template;
mod vm;

pub use launch::{Attachment, FILES, Launch, Leg, Network};
pub use name::{InstanceName, MAX_POOL_NAME, NameError, PoolName};
pub use placement::Placement;
pub use range::AddressRange;
pub use size::Size;
pub use spec::{
    Delivery, DriverChoice, LegSettings, MAX_LEGS, PoolKinds, PoolNetwork, PoolSpec, Rollout,
};
pub use template::{OWN_LABELS, PLACEHOLDERS, Template, Volume, fill, user_ids};
pub use vm::{Board, Boot, DiskFormat, Vm};
