//! Runs the program against an agent that records what it is asked and gives fixed answers, over a real
//! Unix socket. What the real agent does is tested with the agent.

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
mod simulation;
mod streams;
