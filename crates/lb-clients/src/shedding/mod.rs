//! What ends connections that are to be shed: the data plane, or a server that is asked over HTTP.
//!
//! Steering says how many flows of a real are to go ([`lb_steering::Decision::shed`]). The data plane resets
//! them, unless a VIP says otherwise: a [web hook](webhook) ends them where clients can be told, and EMQX
//! [evacuates](emqx) a real that is drained by hand.
//!
//! Each way is a file: its settings with their help and validation, and the code that asks. [`WAYS`] lists them.

pub mod emqx;
pub mod reset;
mod server;
mod shedder;
mod way;
pub mod webhook;

#[cfg(test)]
mod tests;

use lb_model::{settings::FieldError, shedding::Shedding};

pub use server::Server;
pub use shedder::{ShedRequest, Shedder};
pub use way::{Division, ShedKind, ShedWay, Subject};

crate::registry! {
    /// The ways of shedding, in the order of the documentation.
    pub static WAYS: ShedKind = "way of shedding" named by "by";
    reset, webhook, emqx,
}

/// Checks settings with those of their way, and fills in defaults.
///
/// # Errors
/// An unknown way, or the first setting that cannot be used.
pub fn normalize(shedding: &Shedding) -> Result<Shedding, FieldError> {
    WAYS.normalize(shedding)
}

fn find(name: &str) -> Option<&'static ShedKind> {
    KINDS.iter().copied().find(|kind| kind.kind.name == name)
}
