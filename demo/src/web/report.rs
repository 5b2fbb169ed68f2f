//! The final figures.

use std::time::Duration;

use serde::Serialize;

use super::{pool::Explanation, schedule::Step, timeline::StepWindow};
use crate::{clients::Client, stats::Vip};

/// What `--report` writes. The names of the fields are an interface.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests of all clients, failed ones included.
    pub requests: u64,
    /// Requests that failed although no crashed instance had to answer them.
    pub failed: u64,
    /// Descriptions of everything that should not have happened.
    #[serde(rename = "faults")]
    pub violations: Vec<String>,
    /// native or generic.
    pub xdp_mode: String,
    /// What ran the instances: docker or process.
    pub driver: String,
    /// How long the clients ran, in seconds.
    pub seconds: f64,
    /// What happened to the pool, and what came of it.
    #[serde(rename = "script")]
    pub windows: Vec<Window>,
    /// What each group of clients recorded.
    pub clients: Vec<Client>,
    /// The balancer's counters.
    pub vips: Vec<Vip>,
    /// The pool in the end.
    pub pool: Explanation,
}

/// A step and what came of it. Times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// The whole window in words.
    pub summary: String,
    /// What happened.
    pub step: Step,
    /// When, since the clients started.
    pub at: f64,
    /// The instance that was crashed or killed.
    pub instance: Option<String>,
    /// Instances that served before.
    pub before: usize,
    /// The most instances that served in the window; after the load has fallen, the fewest.
    pub reached: usize,
    /// When the instance was out of rotation.
    pub out_after: Option<f64>,
    /// When the pool had grown, was whole again, or was small again.
    pub settled_after: Option<f64>,
    /// Requests that a crashed instance answered with 500.
    pub failed: u64,
}

impl From<&StepWindow> for Window {
    fn from(window: &StepWindow) -> Self {
        let since =
            |event: Option<Duration>| Some(event?.saturating_sub(window.began).as_secs_f64());
        Self {
            summary: window.summary(),
            step: window.step,
            at: window.began.as_secs_f64(),
            instance: window.instance.clone(),
            before: window.before,
            reached: window.reached,
            out_after: since(window.out),
            settled_after: since(window.settled),
            failed: window.failed,
        }
    }
}
