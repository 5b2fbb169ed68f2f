//! Raw bytes to a proxy and to its instances: what must be refused, what must pass, and how.
//!
//! Each table row is a probe: what is sent, and the answer that the RFCs, or good sense, demand.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod answers;
mod cache;
mod checks;
mod choosing;
mod connections;
mod health;
mod http2;
mod names;
mod refused;
mod requests;
mod slow;
mod support;
