//! Who ends connections that are to be shed: the data plane, or whoever is asked over HTTP.
//!
//! Steering says how many flows of a real are to go ([`lb_steering::Decision::shed`]). The data plane resets
//! them, unless a VIP says otherwise: a [web hook](webhook) ends them where clients can be told, and EMQX
//! [evacuates](emqx) a real that is drained by hand.

mod emqx;
mod post;
mod shedder;
mod spec;
mod webhook;

pub use shedder::{Order, Shedder};
pub use spec::{Asked, ShedBy, Written};

#[cfg(test)]
mod tests;
