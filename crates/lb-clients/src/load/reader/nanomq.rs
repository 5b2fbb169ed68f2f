//! NanoMQ: metrics on port 8081.

use super::prometheus::Preset;
use crate::load::reading::Quantity;

/// The score is the processors' use, a percentage of the whole host. The broker measures it since anyone last
/// asked: one reader only.
pub const PRESET: Preset = Preset {
    path: "/api/v4/prometheus",
    values: &[
        (Quantity::Utilisation, "nanomq_cpu_usage / 100"),
        (Quantity::Connections, "nanomq_connections_count"),
        (Quantity::MemoryBytes, "nanomq_memory_usage"),
    ],
    pulse: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::reader::prometheus::assert_reads;

    #[test]
    fn a_recorded_answer_is_read() {
        assert_reads(
            &PRESET,
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
