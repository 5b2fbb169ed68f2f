//! What should not have happened in a run.

use anyhow::bail;

use crate::clients::Client;

/// Violations whose description is kept.
pub const KEPT: usize = 20;

/// Events that are neither part of the demonstration nor a consequence of it: they make the run fail.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    /// Descriptions of the first of them.
    pub descriptions: Vec<String>,
    /// All of them.
    pub count: u64,
    /// Those that are a failed request of a client.
    pub requests: u64,
}

impl Violations {
    /// Adds one.
    pub fn add(&mut self, description: String) {
        self.count += 1;
        if self.descriptions.len() < KEPT {
            self.descriptions.push(description);
        }
    }

    /// Adds one that is a failed request of a client.
    pub fn add_request(&mut self, description: String) {
        self.requests += 1;
        self.add(description);
    }

    /// Fails if there is one, if an unexplained request has failed, or if there were no requests.
    pub fn judge(&self, requests: u64, failed: u64, clients: &[Client]) -> anyhow::Result<()> {
        if failed == 0 && self.count == 0 && requests > 0 {
            return Ok(());
        }
        let descriptions: Vec<&str> = self
            .descriptions
            .iter()
            .chain(clients.iter().flat_map(|client| &client.record.errors))
            .map(String::as_str)
            .collect();
        bail!(
            "{failed} of {requests} requests failed, {} unexpected events: {}",
            self.count,
            descriptions.join("; ")
        );
    }
}
