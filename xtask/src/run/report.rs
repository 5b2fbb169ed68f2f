//! The final figures.

use std::{fs, path::Path};

use anyhow::Context as _;
use lb_tests::client::LoadReport;
use serde::Serialize;

use super::stats::Vip;

/// What `--report` writes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of all clients: HTTP requests, MQTT connects and publishes; failed ones included.
    pub requests: u64,
    /// Those without a right answer.
    pub failed: u64,
    /// native or generic.
    pub xdp_mode: String,
    /// How long the clients ran.
    pub seconds: f64,
    /// What each group of clients saw.
    pub clients: Vec<Client>,
    /// The balancer's counters.
    pub vips: Vec<Vip>,
}

/// What one group of clients saw.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// What they do.
    pub name: String,
    /// The VIP they use.
    pub vip: String,
    /// Their record.
    #[serde(flatten)]
    pub record: LoadReport,
}

impl Report {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing figures as JSON")?;
        fs::write(path, text + "\n")
            .with_context(|| format!("writing the report to {}", path.display()))
    }
}
