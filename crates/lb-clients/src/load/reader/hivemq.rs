//! HiveMQ: the Prometheus extension on port 9399. Experimental: the names of the metrics are written from
//! memory and have not been verified on a live broker.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<HiveMq>();

/// The utilisation is that of the whole host, so it includes other processes.
pub(super) struct HiveMq;

impl PresetReader for HiveMq {
    const NAME: &'static str = "hivemq";
    const HELP: &'static str = "Experimental, not verified on a live broker. Reads the metrics of HiveMQ's Prometheus \
                                extension; the utilisation is that of the whole host.";
    const PORT: u16 = 9399;
    const PRESET: Preset = Preset {
        path: "/metrics",
        values: &[
            (Quantity::Utilisation, "com_hivemq_system_system_cpu_load"),
            (
                Quantity::Connections,
                "com_hivemq_networking_connections_current",
            ),
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
            &HiveMq::PRESET,
            "com_hivemq_system_process_cpu_load 0.375\n\
             com_hivemq_system_system_cpu_load 0.5\n\
             com_hivemq_overload_protection_level 0.0\n\
             com_hivemq_networking_connections_current 5000.0\n",
            &[
                (Quantity::Utilisation, 0.5),
                (Quantity::Connections, 5_000.0),
            ],
        );
    }
}
