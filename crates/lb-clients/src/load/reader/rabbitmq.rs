//! RabbitMQ: the Prometheus plugin on port 15692.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<RabbitMq>();

/// The metrics have no processor time, so there is no utilisation: memory and file descriptors act as guards.
pub(super) struct RabbitMq;

impl PresetReader for RabbitMq {
    const NAME: &'static str = "rabbitmq";
    const HELP: &'static str =
        "Reads the metrics of RabbitMQ's Prometheus plugin, which have no utilisation.";
    const PORT: u16 = 15692;
    const PRESET: Preset = Preset {
        path: "/metrics",
        values: &[
            (
                Quantity::Memory,
                "rabbitmq_process_resident_memory_bytes / rabbitmq_resident_memory_limit_bytes",
            ),
            (
                Quantity::FileDescriptors,
                "rabbitmq_process_open_fds / rabbitmq_process_max_fds",
            ),
            (Quantity::Connections, "rabbitmq_connections"),
            (
                Quantity::RunQueue,
                "max(rabbitmq_erlang_scheduler_run_queue)",
            ),
        ],
        progress: None,
    };
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::load::reader::shared::metrics::{Metrics, assert_reads};

    #[test]
    fn an_undefined_number_costs_the_others_nothing() {
        let page = "rabbitmq_connections 77\n\
            rabbitmq_process_open_fds undefined\n\
            rabbitmq_process_max_fds 1024\n\
            rabbitmq_process_resident_memory_bytes 536870912\n\
            rabbitmq_resident_memory_limit_bytes 2147483648\n";
        let answer = Metrics::preset(&RabbitMq::PRESET)
            .read(page.as_bytes(), Instant::now())
            .unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(77.0));
        assert_eq!(answer.get(Quantity::Memory), Some(0.25));
        assert_eq!(answer.get(Quantity::FileDescriptors), None);
        let missing = answer
            .missing
            .iter()
            .find(|missing| missing.quantity == Quantity::FileDescriptors)
            .unwrap();
        assert!(
            missing
                .reason
                .contains("rabbitmq_process_open_fds undefined"),
            "{}",
            missing.reason
        );
    }

    #[test]
    fn a_recorded_answer_is_read() {
        assert_reads(
            &RabbitMq::PRESET,
            "# TYPE rabbitmq_connections gauge\n\
             rabbitmq_connections 77\n\
             rabbitmq_process_open_fds 256\n\
             rabbitmq_process_max_fds 1024\n\
             rabbitmq_process_resident_memory_bytes 536870912\n\
             rabbitmq_resident_memory_limit_bytes 2147483648\n\
             rabbitmq_erlang_scheduler_run_queue 1\n",
            &[
                (Quantity::Memory, 0.25),
                (Quantity::FileDescriptors, 0.25),
                (Quantity::Connections, 77.0),
                (Quantity::RunQueue, 1.0),
            ],
        );
    }
}
