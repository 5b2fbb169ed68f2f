//! Clients of the reals and of what runs beside them: health probes, load readers, shedding, and the
//! connections they share.

pub mod backoff;
pub mod health;
pub mod load;
pub mod peer;
pub mod shedding;
