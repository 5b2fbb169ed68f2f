//! Clients of the reals and of what runs beside them: health probes, load readers, shedding, and the
//! connections they share.

mod registry;

pub mod backoff;
pub mod health;
mod json;
pub mod load;
pub mod peer;
pub mod shedding;

use lb_model::intent::Kinds;

/// The kinds of every family: what the agent runs, and what `lbctl` reads and writes.
pub static KINDS: Kinds = Kinds {
    probes: &health::probe::PROBES,
    readers: &load::reader::READERS,
    controllers: &lb_steering::REGISTRY,
    sheds: &shedding::WAYS,
};
