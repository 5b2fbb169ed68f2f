//! collectd's `write_prometheus` plugin on port 9103.

use super::shared::metrics::{Preset, PresetReader};
use crate::load::reading::Quantity;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Collectd>();

/// The utilisation is the host's processor time that is neither idle nor waiting for a disk; memory is what the memory
/// plugin calls used, without caches and buffers. Names of collectd 5.12.
pub(super) struct Collectd;

impl PresetReader for Collectd {
    const NAME: &'static str = "collectd";
    const HELP: &'static str = "Reads utilisation, memory and load average of the whole host from collectd's \
                                write_prometheus plugin; it needs the plugins cpu, memory and load.";
    const PORT: u16 = 9103;
    const COUNTS_CLIENTS: bool = false;
    const PRESET: Preset = Preset {
        path: "/metrics",
        values: &[
            (
                Quantity::Utilisation,
                "1 - sum(rate(collectd_cpu_total{type=~\"idle|wait\"})) / sum(rate(collectd_cpu_total))",
            ),
            (
                Quantity::Memory,
                "sum(collectd_memory{memory=\"used\"}) / sum(collectd_memory)",
            ),
            (Quantity::RunQueue, "collectd_load_shortterm"),
        ],
        progress: Some("sum(collectd_cpu_total)"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::reader::shared::metrics::assert_reads;

    #[test]
    fn a_recorded_answer_is_read() {
        assert_reads(
            &Collectd::PRESET,
            "# TYPE collectd_cpu_total counter\n\
             collectd_cpu_total{cpu=\"0\",type=\"idle\",instance=\"real\"} 51761 1795905639020\n\
             collectd_cpu_total{cpu=\"0\",type=\"user\",instance=\"real\"} 633644 1795905639017\n\
             collectd_load_shortterm{instance=\"real\"} 2.5 1795905639017\n\
             collectd_memory{memory=\"buffered\",instance=\"real\"} 1000 1795905639017\n\
             collectd_memory{memory=\"cached\",instance=\"real\"} 2000 1795905639017\n\
             collectd_memory{memory=\"free\",instance=\"real\"} 4000 1795905639017\n\
             collectd_memory{memory=\"used\",instance=\"real\"} 1000 1795905639017\n",
            &[(Quantity::Memory, 0.125), (Quantity::RunQueue, 2.5)],
        );
    }
}
