//! `lb-agent report` as balancers and Prometheus see it: the program itself, read over loopback and a Unix
//! socket. Needs no privileges.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod grpc;
mod http;
mod reporter;
