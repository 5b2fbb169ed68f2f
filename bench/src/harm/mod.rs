//! Situations in which steering can do harm, request by request, beside policies that cannot: a floor under the law.
//!
//! - [`scenario`]: what a situation consists of: the pool, the demand, the faults, what is read of it.
//! - [`catalogue`]: all situations.
//! - `server`, `readings`, `policy`, `clients`: the model's parts.
//! - [`play`]: plays a situation under a policy.
//! - [`report`]: all of them, as a table.
//!
//! # Model
//! Requests arrive as a Poisson process and are split by the weights in force, which a policy decides once per period
//! from observations. A server has some processors and one queue (M/M/c, first come first served). A request that
//! would wait for more than [`play::BACKLOG`] finds the queue full: its SYN stays unanswered, the client repeats it
//! after 1 s and 3 s to the same server, and then gives up: the request is *lost*. An error answer is lost, too. A
//! request that is answered more than [`play::LATE`] after its first SYN is *late*.
//!
//! Connections that live long are counted per server. Each makes requests at a constant rate, so the next request
//! belongs to a server in proportion to its connections. A request that finds the queue full is lost, as the client
//! waits no longer. To connect costs a quarter of a request and goes through the same queue. A connect that fails is
//! lost, and so are the requests that the connection would have made. Clients of a dead server reconnect within ten
//! seconds of its death being noticed, and try again every five seconds until they succeed.

pub mod catalogue;
mod clients;
pub mod play;
mod policy;
mod readings;
pub mod report;
pub mod scenario;
mod server;

#[cfg(test)]
mod tests;

pub use self::policy::Policy;
