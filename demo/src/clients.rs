//! What groups of clients saw, and its table.

use std::time::Duration;

use comfy_table::Table;
use lb_tests::client::LoadReport;
use serde::Serialize;

use crate::table::{short, table};

/// What one group of clients saw.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// What the group does.
    pub name: String,
    /// The VIP that it uses.
    pub vip: String,
    /// How often a client was disconnected against its will; `None` for groups that do not count it.
    pub outages: Option<u64>,
    /// What they have recorded.
    #[serde(flatten)]
    pub record: LoadReport,
}

/// Makes tables, and keeps the last numbers of requests for the rates.
#[derive(Default)]
pub struct ClientTable(Vec<u64>);

impl ClientTable {
    /// Returns the table. `passed` is the time since the last one.
    pub fn table(&mut self, clients: &[Client], passed: Option<Duration>) -> Table {
        let mut table = table(
            &[
                "clients",
                "VIP",
                "connections",
                "requests/s",
                "requests",
                "failed",
                "outages",
                "p50 ms",
                "p99 ms",
                "",
            ],
            1,
        );
        let requests = clients
            .iter()
            .map(|client| client.record.requests)
            .collect();
        let before = std::mem::replace(&mut self.0, requests);
        for (index, client) in clients.iter().enumerate() {
            let record = &client.record;
            let millis =
                |micros: Option<u64>| micros.map(|micros| format!("{:.2}", micros as f64 / 1000.0));
            let rate = before.get(index).zip(passed).map(|(before, passed)| {
                short(record.requests.saturating_sub(*before) as f64 / passed.as_secs_f64())
            });
            let outages = client.outages.map(|outages| outages.to_string());
            table.add_row([
                client.name.clone(),
                client.vip.clone(),
                record.connections.to_string(),
                rate.unwrap_or_default(),
                record.requests.to_string(),
                record.failed.to_string(),
                outages.unwrap_or_default(),
                millis(record.latency_p50_us).unwrap_or_default(),
                millis(record.latency_p99_us).unwrap_or_default(),
                record.errors.first().cloned().unwrap_or_default(),
            ]);
        }
        table
    }
}
