//! The final figures.

use std::time::Duration;

use serde::Serialize;

use super::{fault_window::FaultWindow, schedule::Fault, why::Why};
use crate::{clients::Client, stats::Vip};

/// What `--report` writes. The names of the fields are an interface.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests of all clients, failed ones included: HTTP requests, MQTT connects and publishes.
    pub requests: u64,
    /// Requests that failed without being a consequence of a fault.
    pub failed: u64,
    /// Descriptions of everything that should not have happened.
    #[serde(rename = "faults")]
    pub violations: Vec<String>,
    /// native or generic.
    pub xdp_mode: String,
    /// How long the clients ran, in seconds.
    pub seconds: f64,
    /// The faults of the brokers, and their consequences.
    #[serde(rename = "script")]
    pub windows: Vec<Window>,
    /// What each group of clients recorded.
    pub clients: Vec<Client>,
    /// The balancer's counters.
    pub vips: Vec<Vip>,
    /// What the reals' weights followed from in the end.
    pub reals: Vec<Why>,
}

/// A fault and its consequences. Times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// The whole window in words.
    pub summary: String,
    /// The broker, counted from 1.
    pub broker: usize,
    /// The fault.
    #[serde(rename = "trouble")]
    pub fault: Fault,
    /// When it began, since the clients started.
    pub at: f64,
    /// How long it lasted; `None` if it lasted until the end of the run.
    pub lasted: Option<f64>,
    /// Its share of new connections before, 0 to 1.
    pub share_before: f64,
    /// The least share during the fault.
    pub share_least: f64,
    /// When the share had fallen, since the fault began; for a broker that is loaded.
    pub shrunk_after: Option<f64>,
    /// When the broker was out of rotation for every VIP, since the fault began.
    pub out_after: Option<f64>,
    /// Clients whose connection broke.
    pub clients_cut: usize,
    /// New clients that could not connect at the first attempt.
    pub clients_refused: usize,
    /// The longest time that a new client had to wait.
    pub clients_waited: f64,
    /// When all disconnected clients were connected again, since the fault began.
    pub clients_back_after: Option<f64>,
    /// When the broker was back in rotation for every VIP, since the fault ended.
    pub returned_after: Option<f64>,
    /// When the broker had most of its share again, since the fault ended.
    pub restored_after: Option<f64>,
}

impl From<&FaultWindow> for Window {
    fn from(window: &FaultWindow) -> Self {
        let since = |event: Option<Duration>, begin: Option<Duration>| {
            Some(event?.saturating_sub(begin?).as_secs_f64())
        };
        let (began, ended) = (Some(window.began), window.ended);
        Self {
            summary: window.summary(),
            broker: window.broker + 1,
            fault: window.fault,
            at: window.began.as_secs_f64(),
            lasted: since(ended, began),
            share_before: window.share_before,
            share_least: window.share_least,
            shrunk_after: since(window.share_reduced, began),
            out_after: since(window.out, began),
            clients_cut: window.disconnected,
            clients_refused: window.refused,
            clients_waited: window.longest_wait.as_secs_f64(),
            clients_back_after: since(window.reconnected, began),
            returned_after: since(window.returned, ended),
            restored_after: since(window.restored, ended),
        }
    }
}
