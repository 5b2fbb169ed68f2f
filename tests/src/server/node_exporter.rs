//! A Prometheus node exporter.

use super::wait_listening;
use crate::{Namespace, Process};

/// A running node exporter. Its metrics are those of the machine that the test runs on.
#[derive(Debug)]
pub struct NodeExporter {
    _process: Process,
}

impl NodeExporter {
    /// Starts the exporter in `namespace` on `port` of every address.
    ///
    /// # Errors
    /// Fails if the program is missing or does not accept connections in time.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        let mut process = namespace.start(
            "a node exporter",
            "prometheus-node-exporter",
            [format!("--web.listen-address=:{port}")],
        )?;
        wait_listening(namespace, port, &mut process)?;
        Ok(Self { _process: process })
    }
}
