//! Runs `lbctl` against an agent that records requests and gives fixed answers, over a Unix socket. The tests of
//! `lb-agent` cover the behaviour of the real agent.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod agent;
mod answers;
mod changes;
mod failures;
mod fixtures;
mod plans;
mod run;
mod script;
mod seeing;
mod simulation;
mod streams;
