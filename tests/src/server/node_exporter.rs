//! A Prometheus node exporter.

use super::wait_listening;
use crate::{Namespace, Process};

/// A running node exporter, which tells of the machine that the laboratory runs on.
#[derive(Debug)]
pub struct NodeExporter {
    _process: Process,
}

impl NodeExporter {
    /// Starts it in `namespace` on `port` of every address.
    ///
    /// # Errors
    /// When it is missing or does not come up.
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
