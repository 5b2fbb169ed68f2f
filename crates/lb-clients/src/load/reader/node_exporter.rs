//! Prometheus' node_exporter on port 9100.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<NodeExporter>();

/// The utilisation is the host's processor time that is neither idle nor waiting for a disk.
pub(super) struct NodeExporter;

impl PresetReader for NodeExporter {
    const NAME: &'static str = "node-exporter";
    const HELP: &'static str =
        "Reads utilisation and memory of the whole host from Prometheus' node_exporter.";
    const PORT: u16 = 9100;
    const COUNTS_CLIENTS: bool = false;
    const PRESET: Preset = Preset {
        path: "/metrics",
        values: &[
            (
                Quantity::Utilisation,
                "1 - sum(rate(node_cpu_seconds_total{mode=~\"idle|iowait\"})) / sum(rate(node_cpu_seconds_total))",
            ),
            (
                Quantity::Memory,
                "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
            ),
        ],
        progress: Some("sum(node_cpu_seconds_total)"),
    };
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::load::reader::shared::metrics::{Metrics, assert_reads};

    #[test]
    fn processor_time_is_between_two_answers() {
        let mut metrics = Metrics::preset(&NodeExporter::PRESET);
        let start = Instant::now();
        let text = |idle: u32, wait: u32, user: u32| {
            format!(
                "node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} {idle}\n\
                 node_cpu_seconds_total{{cpu=\"0\",mode=\"iowait\"}} {wait}\n\
                 node_cpu_seconds_total{{cpu=\"1\",mode=\"user\"}} {user}\n"
            )
        };
        let mut utilisation = |after: u64, text: String| {
            metrics
                .read(text.as_bytes(), start + Duration::from_secs(after))
                .unwrap()
                .get(Quantity::Utilisation)
        };
        assert_eq!(utilisation(0, text(100, 10, 50)), None);
        assert_eq!(utilisation(4, text(104, 12, 52)), Some(0.25));
        // The exporter was restarted, which resets the counters.
        assert_eq!(utilisation(8, text(1, 1, 1)), None);
        // No counter changed; the division by zero has no value.
        assert_eq!(utilisation(12, text(1, 1, 1)), None);
    }

    #[test]
    fn a_recorded_answer_is_read() {
        assert_reads(
            &NodeExporter::PRESET,
            "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 1e6\n\
             node_cpu_seconds_total{cpu=\"0\",mode=\"user\"} 1000\n\
             node_memory_MemAvailable_bytes 6e9\n\
             node_memory_MemTotal_bytes 8e9\n",
            &[(Quantity::Memory, 0.25)],
        );
    }
}
