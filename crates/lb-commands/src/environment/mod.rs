//! Environments: ordered groups of members that form one application, and what follows from orders about them.
//!
//! - [`record`]: what is stored of an environment.
//! - [`handler`]: the events of members, and the handlers that are built in.
//! - `run.rs`: a run of a command about an environment: what changes of the record, and the commands that it orders.
//! - [`answer`]: what an operator's own handler may answer.

pub mod answer;
pub mod handler;
pub mod record;
pub mod run;
#[cfg(test)]
mod tests;
pub mod verbs;

pub use self::{
    handler::{Event, OwnHandler, Verdict},
    record::{Environment, Member, MemberKind, Power, Standing},
    run::{Change, Ran, applied, run},
};
