//! What several kinds of readers share.

pub mod deltas;
pub mod fetch;
pub mod json;
pub mod metrics;
pub mod peer;
pub mod subscribe;
pub mod systree;
pub mod task;
pub mod topics;
