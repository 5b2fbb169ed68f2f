//! A report as metrics.

use std::{fmt, sync::Arc, time::SystemTime};

use lb_report::{Sample, Source};
use lb_serve::metrics::{Family, Kind, Snapshot, Unit, Value, Writer};

/// A report that is to be written.
#[derive(Debug)]
pub(super) struct ReportSnapshot(pub(super) Arc<Sample>);

/// A figure and where it stands in a report.
struct Figure {
    family: Family,
    value: fn(&Sample) -> Option<f64>,
}

const fn figure(
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    help: &'static str,
    value: fn(&Sample) -> Option<f64>,
) -> Figure {
    let family = Family {
        name,
        kind,
        unit,
        labels: &[],
        help,
    };
    Figure { family, value }
}

const fn gauge(
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    value: fn(&Sample) -> Option<f64>,
) -> Figure {
    figure(name, Kind::Gauge, unit, help, value)
}

const fn ratio(
    name: &'static str,
    help: &'static str,
    value: fn(&Sample) -> Option<f64>,
) -> Figure {
    gauge(name, Some(Unit::Ratio), help, value)
}

const FIGURES: &[Figure] = &[
    ratio("lb_report_cpu_ratio", "CPU used, of its own limit.", |s| {
        s.cpu
    }),
    gauge(
        "lb_report_cpu_limit_cores",
        None,
        "The limit that CPU is a part of.",
        |s| s.cpu_limit,
    ),
    ratio(
        "lb_report_throttled_ratio",
        "Throttled periods of the CPU quota, of all.",
        |s| s.throttled,
    ),
    ratio(
        "lb_report_host_cpu_ratio",
        "CPU of the host that is used.",
        |s| s.host_cpu,
    ),
    ratio(
        "lb_report_host_memory_ratio",
        "Memory of the host that is not available.",
        |s| s.host_memory,
    ),
    ratio(
        "lb_report_memory_ratio",
        "Memory used, without cache, of its own limit.",
        |s| s.memory,
    ),
    gauge(
        "lb_report_memory_limit_bytes",
        Some(Unit::Bytes),
        "The limit that memory is a part of.",
        |s| s.memory_limit.map(|bytes| bytes as f64),
    ),
    ratio(
        "lb_report_file_descriptors_ratio",
        "Open file descriptors, of the limit.",
        |s| s.file_descriptors,
    ),
    ratio(
        "lb_report_network_ratio",
        "Busiest direction of the busiest interface, of its rate.",
        |s| s.network,
    ),
    gauge(
        "lb_report_received_bytes_per_second",
        None,
        "Bytes received a second.",
        |s| s.received,
    ),
    gauge(
        "lb_report_sent_bytes_per_second",
        None,
        "Bytes sent a second.",
        |s| s.sent,
    ),
    gauge(
        "lb_report_connections",
        None,
        "Established TCP connections.",
        |s| s.connections.map(|count| count as f64),
    ),
    gauge(
        "lb_report_load_average",
        None,
        "Load average of the host over a minute.",
        |s| s.load_average,
    ),
    gauge(
        "lb_report_taken_timestamp_seconds",
        Some(Unit::Seconds),
        "When the report was taken, in seconds since 1970.",
        |s| {
            let taken = s.taken_at.duration_since(SystemTime::UNIX_EPOCH);
            Some(taken.unwrap_or_default().as_secs_f64())
        },
    ),
    figure(
        "lb_report_cpu_seconds_total",
        Kind::Counter,
        Some(Unit::Seconds),
        "Seconds of its whole CPU limit that were used.",
        |s| s.cpu_seconds,
    ),
];

const INFO: Family = Family {
    name: "lb_report_info",
    kind: Kind::Info,
    unit: None,
    labels: &["source", "subject", "version"],
    help: "What is measured, and the version of the reporter.",
};

impl Snapshot for ReportSnapshot {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let sample = &*self.0;
        for figure in FIGURES {
            if let Some(value) = (figure.value)(sample) {
                writer.family(&figure.family, |samples| {
                    samples.add(&[], Value::Number(value))
                })?;
            }
        }
        let source = match sample.source {
            Source::Host => "host",
            Source::CgroupV1 => "cgroup_v1",
            Source::CgroupV2 => "cgroup_v2",
        };
        let labels = [
            ("source", source),
            ("subject", sample.subject.as_str()),
            ("version", sample.version),
        ];
        writer.family(&INFO, |samples| samples.add(&labels, Value::Fact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_report::example;
    use lb_serve::metrics::{Format, render};

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_left_out() {
        let mut sample = example();
        sample.subject = "a \"b\" \\".to_owned();
        let text = render(ReportSnapshot(Arc::new(sample)), Format::Prometheus).unwrap();
        for line in [
            "lb_report_cpu_ratio 0.5",
            "# TYPE lb_report_cpu_seconds_total counter",
            "lb_report_cpu_seconds_total 7.5",
            "lb_report_memory_limit_bytes 67108864",
            "lb_report_connections 17",
            "lb_report_taken_timestamp_seconds 1700000000.5",
            "lb_report_info{source=\"cgroup_v2\",subject=\"a \\\"b\\\" \\\\\",version=\"0.1.0\"} 1",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line}\n{text}"
            );
        }
        assert!(!text.contains("network_ratio"), "{text}");
        assert!(text.ends_with('\n'));
    }
}
