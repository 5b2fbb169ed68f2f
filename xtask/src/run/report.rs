//! The final figures.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    clients::Client,
    episode::{Episode, Trouble},
    stats::Vip,
    why::Why,
};

/// What `--report` writes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of all clients: HTTP requests, MQTT connects and publishes; failed ones included.
    pub requests: u64,
    /// Those without a right answer, though nothing was done to who should have given it.
    pub failed: u64,
    /// Everything that should not have happened, in words.
    pub faults: Vec<String>,
    /// native or generic.
    pub xdp_mode: String,
    /// How long the clients ran.
    pub seconds: f64,
    /// What was done to the brokers, and what followed.
    pub script: Vec<Done>,
    /// What each group of clients saw.
    pub clients: Vec<Client>,
    /// The balancer's counters.
    pub vips: Vec<Vip>,
    /// Why the reals are as they are in the end.
    pub reals: Vec<Why>,
}

/// What was done to a broker, and what followed. Times are in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// All of it in words.
    pub summary: String,
    /// Which broker, from 1.
    pub broker: usize,
    /// What was done to it.
    pub trouble: Trouble,
    /// When, since the clients began.
    pub at: f64,
    /// For how long; none: until the end.
    pub lasted: Option<f64>,
    /// Its share of new connections before, 0 to 1.
    pub share_before: f64,
    /// The least share meanwhile.
    pub share_least: f64,
    /// When its share had shrunk, since the begin; for one that is loaded.
    pub shrunk_after: Option<f64>,
    /// When it was dead to every VIP, since the begin.
    pub out_after: Option<f64>,
    /// Clients that were cut off.
    pub clients_cut: usize,
    /// Clients that came and could not connect at once.
    pub clients_refused: usize,
    /// The longest that one of these had to wait.
    pub clients_waited: f64,
    /// When all that were cut off were connected again, since the begin.
    pub clients_back_after: Option<f64>,
    /// When it was alive to every VIP, since the end.
    pub returned_after: Option<f64>,
    /// When it had most of its share again, since the end.
    pub restored_after: Option<f64>,
}

impl From<&Episode> for Done {
    fn from(episode: &Episode) -> Self {
        let since = |event: Option<Duration>, begin: Option<Duration>| {
            Some(event?.saturating_sub(begin?).as_secs_f64())
        };
        let (began, ended) = (Some(episode.began), episode.ended);
        Self {
            summary: episode.summary(),
            broker: episode.broker + 1,
            trouble: episode.trouble,
            at: episode.began.as_secs_f64(),
            lasted: since(ended, began),
            share_before: episode.before,
            share_least: episode.least,
            shrunk_after: since(episode.shrunk, began),
            out_after: since(episode.out, began),
            clients_cut: episode.cut,
            clients_refused: episode.refused,
            clients_waited: episode.waited.as_secs_f64(),
            clients_back_after: since(episode.back, began),
            returned_after: since(episode.returned, ended),
            restored_after: since(episode.restored, ended),
        }
    }
}

impl Report {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing figures as JSON")?;
        fs::write(path, text + "\n")
            .with_context(|| format!("writing the report to {}", path.display()))
    }
}
