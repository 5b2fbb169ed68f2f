//! The HTTP tier: accepts clients, routes their requests to services, chooses an instance, caches static answers.
//!
//! A request's way: [`listen`] accepts and finds out the protocol, [`http`] validates, [`routes`] finds the service,
//! [`cache`] answers if it can, [`service`] and [`choice`] name an instance, [`upstream`] has a connection to it, and
//! [`http::body`] carries both bodies.

pub mod admin;
pub mod cache;
pub mod choice;
pub mod clock;
pub mod config;
pub mod http;
pub mod listen;
pub mod log;
pub mod members;
pub mod metrics;
pub mod net;
mod patience;
pub mod proxy;
pub mod proxy_protocol;
pub mod reference;
mod relay;
pub mod routes;
pub mod server;
pub mod service;
pub mod trouble;
pub mod upstream;
mod worker;
