//! Hosts that run instances for a controller elsewhere.
//!
//! The host makes the connection, so it needs no open port and may be behind NAT; on the connection the controller is the
//! client of HTTP/2 and the host the server, so the drivers are plain gRPC (`lb.host.v1`) with its deadlines, cancellation
//! and flow control. Both ends prove who they are by certificates of the controller's own authority:
//!
//! - [`token`]: what an operator carries from the controller to a new host, once.
//! - [`authority`]: the controller's authority, and the names in its certificates.
//! - [`identity`]: the host's key and certificate, on its disk.
//! - [`accept`]: the controller's end of the connections. [`dial`]: the host's.
//! - [`server`]: a host's drivers as `lb.host.v1.Host`. [`remote`]: the same on the other side, as a
//!   [`Driver`](lb_drivers::Driver).

#![forbid(unsafe_code)]

pub mod accept;
pub mod authority;
pub mod dial;
mod failure;
pub mod identity;
mod io;
pub mod remote;
pub mod server;
#[cfg(test)]
mod tests;
mod tls;
pub mod token;

/// Application protocol of a connection on which the controller calls the host.
const ATTACH: &[u8] = b"lb-host/1";
/// Application protocol of a connection on which a host calls the controller.
const MEMBERSHIP: &[u8] = b"h2";
/// How often an idle connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);
/// How often a host gives a sign of life.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(1);
