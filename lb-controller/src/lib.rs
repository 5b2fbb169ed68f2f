//! `lb-controller`: operates pools of instances.
//!
//! - [`pool`]: one pool, purely: which instances there are to be, and what to do next.
//! - [`registry`]: projects and load balancers, purely: which there are, and what follows from an order.
//! - [`records`]: what is stored; [`keeper`]: the store.
//! - [`hub`]: drivers, and what they list.
//! - [`agents`]: the agents whose VIPs the instances serve.
//! - [`worker`]: the task of one pool, which makes the steps.
//! - [`controller`]: all pools.
//! - [`nodes`]: what pools of nodes and whoever keeps load balancers tell each other.
//! - [`hosts`]: other machines that run instances, and which of them gets which.
//! - [`projects`]: makes projects and the load balancers in them true; their nodes are pools.
//! - [`queue`]: the command queue: stored before it is executed.
//! - [`environments`]: groups of pools and load balancers, whose orders are commands.
//! - [`access`]: who may use it, and who did what.
//! - [`history`]: what they carried, by time.
//! - [`api`]: `lb.controller.v1`; [`http`]: the same as JSON, and WebSockets.

#![forbid(unsafe_code)]

pub mod access;
pub mod agents;
pub mod api;
pub mod clock;
pub mod config;
pub mod controller;
pub mod environments;
pub mod events;
pub mod health;
pub mod history;
pub mod hosts;
pub mod http;
pub mod hub;
pub mod keeper;
pub mod load;
pub mod metrics;
pub mod nodes;
pub mod orphans;
pub mod pool;
pub mod projects;
pub mod pulses;
pub mod queue;
pub mod records;
pub mod reference;
pub mod registry;
pub mod troubles;
pub mod usage;
pub mod worker;

use lb_model::pool::PoolKinds;

/// The kinds that a pool's components can have.
pub static KINDS: PoolKinds = PoolKinds {
    drivers: &lb_drivers::DRIVERS,
    probes: &lb_clients::health::probe::PROBES,
    readers: &lb_clients::load::reader::READERS,
};
