//! NanoMQ: metrics on port 8081.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<NanoMq>();

/// The utilisation is that of the whole host, in percent. The broker measures it since the last request of any client,
/// so there must be only one reader.
pub(super) struct NanoMq;

impl PresetReader for NanoMq {
    const NAME: &'static str = "nanomq";
    const HELP: &'static str = "Reads NanoMQ's metrics over HTTP; the utilisation is that of the whole host. There must be no other client of the page.";
    const PORT: u16 = 8081;
    const PRESET: Preset = Preset {
        path: "/api/v4/prometheus",
        values: &[
            (Quantity::Utilisation, "nanomq_cpu_usage / 100"),
            (Quantity::Connections, "nanomq_connections_count"),
            (Quantity::MemoryBytes, "nanomq_memory_usage"),
        ],
        progress: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::reader::shared::metrics::assert_reads;

    #[test]
    fn a_recorded_answer_is_read() {
        assert_reads(
            &NanoMq::PRESET,
            "# TYPE nanomq_connections_count gauge\n\
             nanomq_connections_count 350\n\
             nanomq_memory_usage 20971520\n\
             nanomq_cpu_usage 12.5\n",
            &[
                (Quantity::Utilisation, 0.125),
                (Quantity::Connections, 350.0),
                (Quantity::MemoryBytes, 20_971_520.0),
            ],
        );
    }
}
