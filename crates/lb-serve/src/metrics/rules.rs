//! Allowed names and labels of metrics, and the number of series that an object may have.

use super::family::{Family, Kind};

/// The beginning of every name.
pub const PREFIX: &str = "lb_";
/// Labels that a metric may have. No label names a client, a host name of a request, or anything else whose number
/// grows with traffic.
pub const LABELS: &[&str] = &[
    "vip",
    "real",
    "pool",
    "agent",
    "host",
    "resource",
    "instance",
    "state",
    "kind",
    "service",
    "reason",
    "family",
    "interface",
    "table",
    "result",
    "version",
];
/// The most series that a real may have.
pub const MAX_SERIES_PER_REAL: usize = 25;
/// The most series that a VIP may have, without those of its reals.
pub const MAX_SERIES_PER_VIP: usize = 40;

/// Words that are not base units, or that repeat the type. Prometheus' naming rules forbid them in names.
const FORBIDDEN: &[&str] = &[
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "days",
    "bits",
    "kilobytes",
    "megabytes",
    "kibibytes",
    "percent",
    "ms",
    "us",
    "ns",
    "sec",
    "b",
    "kb",
    "mb",
    "counter",
    "gauge",
    "histogram",
    "summary",
];

/// Checks the name, the labels and the help text of a family.
///
/// # Errors
/// Returns the rule that it breaks.
pub fn check(family: &Family) -> Result<(), String> {
    let name = family.name;
    let rule = |kept: bool, rule: &str| {
        if kept {
            Ok(())
        } else {
            Err(format!("{name}: {rule}"))
        }
    };
    rule(name.starts_with(PREFIX), "the name begins with lb_")?;
    let words = || name.split('_');
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    rule(
        words().all(plain),
        "the name is made of lower-case words and single underscores",
    )?;
    rule(
        !words().any(|word| FORBIDDEN.contains(&word)),
        "the name uses base units and no metric kinds",
    )?;
    rule(
        name.ends_with("_total") == (family.kind == Kind::Counter),
        "counters and only counters end with _total",
    )?;
    rule(
        name.ends_with("_info") == (family.kind == Kind::Info),
        "facts and only facts end with _info",
    )?;
    rule(
        !["_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| name.ends_with(suffix)),
        "_sum, _count and _bucket are of histograms' samples",
    )?;
    let unit = |unit: &str| family.base().ends_with(&format!("_{unit}"));
    rule(
        ["bytes", "seconds", "ratio"]
            .iter()
            .all(|name| unit(name) == family.unit.is_some_and(|own| own.name() == *name)),
        "the unit is the last word of the name, before _total",
    )?;
    rule(
        family.labels.iter().all(|label| LABELS.contains(label)),
        "its labels are of the list",
    )?;
    rule(
        family.help.ends_with('.') && !family.help.contains('\n'),
        "the help text is one line that ends with a full stop",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Unit;

    const GOOD: Family = Family {
        name: "lb_real_bytes_total",
        kind: Kind::Counter,
        unit: Some(Unit::Bytes),
        labels: &["vip", "real"],
        help: "Bytes.",
    };

    #[test]
    fn each_rule_is_checked() {
        assert_eq!(check(&GOOD), Ok(()));
        let gauge = Family {
            name: "lb_real_state",
            kind: Kind::Gauge,
            unit: None,
            ..GOOD
        };
        assert_eq!(check(&gauge), Ok(()));
        for (bad, rule) in [
            (
                Family {
                    name: "real_bytes_total",
                    ..GOOD
                },
                "begins with lb_",
            ),
            (
                Family {
                    name: "lb_Real_bytes_total",
                    ..GOOD
                },
                "lower-case",
            ),
            (
                Family {
                    name: "lb__bytes_total",
                    ..GOOD
                },
                "single underscores",
            ),
            (
                Family {
                    name: "lb_real_ms",
                    ..gauge
                },
                "base units",
            ),
            (
                Family {
                    name: "lb_real_bytes",
                    ..GOOD
                },
                "_total",
            ),
            (
                Family {
                    name: "lb_state_total",
                    ..gauge
                },
                "_total",
            ),
            (
                Family {
                    name: "lb_real_info",
                    ..gauge
                },
                "_info",
            ),
            (
                Family {
                    name: "lb_real_count",
                    ..gauge
                },
                "_count",
            ),
            (Family { unit: None, ..GOOD }, "unit"),
            (
                Family {
                    unit: Some(Unit::Seconds),
                    ..GOOD
                },
                "unit",
            ),
            (
                Family {
                    labels: &["client"],
                    ..GOOD
                },
                "labels",
            ),
            (
                Family {
                    help: "Bytes",
                    ..GOOD
                },
                "full stop",
            ),
        ] {
            let broken = check(&bad).expect_err(bad.name);
            assert!(broken.contains(rule), "{broken}");
        }
    }
}
