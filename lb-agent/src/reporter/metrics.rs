//! A report as Prometheus text (exposition format 0.0.4).

use std::{fmt::Write as _, time::SystemTime};

use lb_report::{Sample, Source};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes what is known of a sample.
#[must_use]
pub fn text(sample: &Sample) -> String {
    let taken = sample
        .taken_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let gauges = [
        ("cpu_ratio", "CPU used, of its own limit.", sample.cpu),
        (
            "cpu_limit_cores",
            "What CPU is a part of.",
            sample.cpu_limit,
        ),
        (
            "throttled_ratio",
            "Throttled periods of the CPU quota, of all.",
            sample.throttled,
        ),
        (
            "host_cpu_ratio",
            "CPU of the host that is used.",
            sample.host_cpu,
        ),
        (
            "host_memory_ratio",
            "Memory of the host that is not available.",
            sample.host_memory,
        ),
        (
            "memory_ratio",
            "Memory used, without cache, of its own limit.",
            sample.memory,
        ),
        (
            "memory_limit_bytes",
            "What memory is a part of.",
            sample.memory_limit.map(|bytes| bytes as f64),
        ),
        (
            "file_descriptors_ratio",
            "Open file descriptors, of the limit.",
            sample.file_descriptors,
        ),
        (
            "network_ratio",
            "Busiest direction of the busiest interface, of its rate.",
            sample.network,
        ),
        (
            "received_bytes_per_second",
            "Bytes received a second.",
            sample.received,
        ),
        ("sent_bytes_per_second", "Bytes sent a second.", sample.sent),
        (
            "connections",
            "Established TCP connections.",
            sample.connections.map(|count| count as f64),
        ),
        (
            "load_average",
            "Load average of the host over a minute.",
            sample.load_average,
        ),
        (
            "taken_timestamp_seconds",
            "When this was taken, since 1970.",
            Some(taken),
        ),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges {
        if let Some(value) = value {
            metric(&mut text, ("gauge", name), help, "", value);
        }
    }
    if let Some(seconds) = sample.cpu_seconds {
        metric(
            &mut text,
            ("counter", "cpu_seconds_total"),
            "Seconds of its whole CPU limit that were used.",
            "",
            seconds,
        );
    }
    let source = match sample.source {
        Source::Host => "host",
        Source::CgroupV1 => "cgroup_v1",
        Source::CgroupV2 => "cgroup_v2",
    };
    let labels = format!(
        "{{source=\"{source}\",subject=\"{}\",version=\"{}\"}}",
        escaped(&sample.subject),
        escaped(sample.version)
    );
    metric(
        &mut text,
        ("gauge", "info"),
        "What is measured, by which version.",
        &labels,
        1.0,
    );
    text
}

fn metric(text: &mut String, (kind, name): (&str, &str), help: &str, labels: &str, value: f64) {
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "# HELP lb_report_{name} {help}\n# TYPE lb_report_{name} {kind}\nlb_report_{name}{labels} {value}\n"
    );
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_report::example;

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_left_out() {
        let mut sample = example();
        sample.subject = "a \"b\" \\".to_owned();
        let text = text(&sample);
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
