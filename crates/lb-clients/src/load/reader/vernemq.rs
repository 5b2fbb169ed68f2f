//! VerneMQ: metrics on port 8888.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<VerneMq>();

/// The utilisation is that of the Erlang schedulers, which the broker reports in percent.
pub(super) struct VerneMq;

impl PresetReader for VerneMq {
    const NAME: &'static str = "vernemq";
    const HELP: &'static str =
        "Reads VerneMQ's metrics over HTTP; the utilisation is that of the Erlang schedulers.";
    const PORT: u16 = 8888;
    const PRESET: Preset = Preset {
        path: "/metrics",
        values: &[
            (Quantity::Utilisation, "max(system_utilization) / 100"),
            (Quantity::Connections, "sum(active_mqtt_connections)"),
            (Quantity::MemoryBytes, "max(vm_memory_total)"),
            (Quantity::RunQueue, "max(system_run_queue)"),
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
            &VerneMq::PRESET,
            "# TYPE system_utilization gauge\n\
             system_utilization{node=\"VerneMQ@10.0.0.1\"} 42\n\
             system_run_queue{node=\"VerneMQ@10.0.0.1\"} 3\n\
             vm_memory_total{node=\"VerneMQ@10.0.0.1\"} 104857600\n\
             active_mqtt_connections{node=\"VerneMQ@10.0.0.1\",mqtt_version=\"4\"} 1000\n\
             active_mqtt_connections{node=\"VerneMQ@10.0.0.1\",mqtt_version=\"5\"} 200\n",
            &[
                (Quantity::Utilisation, 0.42),
                (Quantity::Connections, 1_200.0),
                (Quantity::MemoryBytes, 104_857_600.0),
                (Quantity::RunQueue, 3.0),
            ],
        );
    }
}
