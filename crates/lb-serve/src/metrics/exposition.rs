//! A snapshot as text: OpenMetrics 1.0, or the older Prometheus text format for clients that do not ask for it.

use std::fmt::{self, Write as _};

use http::{HeaderMap, header::ACCEPT};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit as ClientUnit},
};

use super::{
    Histogram,
    family::{Family, Kind, Labels},
};

/// The name of OpenMetrics in the header `Accept`.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4: what `promtool check metrics` and clients that name no format read.
    Prometheus,
}

impl Format {
    /// Returns OpenMetrics if the request accepts it, otherwise Prometheus text.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Format {
        let names_it = |value: &http::HeaderValue| {
            value
                .to_str()
                .is_ok_and(|accepted| accepted.contains(OPEN_METRICS))
        };
        if headers.get_all(ACCEPT).iter().any(names_it) {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// Returns the value of the header `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// A number. A sample with a number that is not finite is left out.
    Number(f64),
    /// A distribution, for families of [`Kind::Histogram`].
    Histogram(&'a Histogram),
    /// A fact that the labels state, for families of [`Kind::Info`].
    Fact,
}

/// Values at one time.
pub trait Snapshot: fmt::Debug + Send + Sync + 'static {
    /// Writes every family with its samples.
    ///
    /// # Errors
    /// Fails as the writer does.
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result;
}

/// Writes the families of a snapshot, one after the other.
#[derive(Debug)]
pub struct Writer<'a>(DescriptorEncoder<'a>);

/// Writes the samples of a family.
#[derive(Debug)]
pub struct Samples<'a> {
    encoder: MetricEncoder<'a>,
    kind: Kind,
}

impl Writer<'_> {
    /// Writes a family, whose samples `samples` adds.
    ///
    /// # Errors
    /// Fails as `samples` or the writer does.
    pub fn family(
        &mut self,
        family: &Family,
        samples: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let unit = family
            .unit
            .map(|unit| ClientUnit::Other(unit.name().to_owned()));
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let encoder = self
            .0
            .encode_descriptor(family.stem(), family.help, unit.as_ref(), kind)?;
        samples(&mut Samples {
            encoder,
            kind: family.kind,
        })
    }
}

impl Samples<'_> {
    /// Writes a sample. A value that does not fit the kind of the family is left out.
    ///
    /// # Errors
    /// Fails as the writer does.
    pub fn add(&mut self, labels: Labels<'_>, value: Value<'_>) -> fmt::Result {
        if matches!((self.kind, value), (Kind::Info, Value::Fact)) {
            return self.encoder.encode_info(&labels);
        }
        if labels.is_empty() {
            return write_value(&mut self.encoder, self.kind, value);
        }
        write_value(&mut self.encoder.encode_family(&labels)?, self.kind, value)
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, kind: Kind, value: Value<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
        }
        (Kind::Gauge, Value::Number(number)) if is_whole(number) => {
            encoder.encode_gauge(&(number as i64))
        }
        (Kind::Counter, Value::Number(number)) if number.is_finite() => {
            encoder.encode_counter::<NoLabelSet, _, u64>(&number, None)
        }
        (Kind::Gauge, Value::Count(count)) => encoder.encode_gauge(&count),
        (Kind::Gauge, Value::Number(number)) if number.is_finite() => encoder.encode_gauge(&number),
        (Kind::Histogram, Value::Histogram(histogram)) => {
            let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
            encoder.encode_histogram::<NoLabelSet>(
                histogram.sum(),
                histogram.count(),
                &buckets,
                None,
            )
        }
        (Kind::Counter | Kind::Gauge, Value::Number(_)) => Ok(()),
        (kind, value) => {
            debug_assert!(false, "a {kind:?} cannot have the value {value:?}");
            Ok(())
        }
    }
}

/// Returns whether a number can be written without a decimal point: it is an integer, which a double holds exactly.
fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < (1_u64 << f64::MANTISSA_DIGITS) as f64
}

/// A collector of the registry that writes a snapshot.
#[derive(Debug)]
struct SnapshotCollector<S>(S);

impl<S: Snapshot> Collector for SnapshotCollector<S> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.write(&mut Writer(encoder))
    }
}

/// Renders a snapshot as text.
///
/// # Errors
/// Fails as [`Snapshot::write`] does.
pub fn render(snapshot: impl Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SnapshotCollector(snapshot)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    match format {
        Format::OpenMetrics => Ok(text),
        Format::Prometheus => prometheus_text(&text),
    }
}

/// Converts OpenMetrics to Prometheus text 0.0.4. The samples are the same. In the older format, the name of a counter
/// includes `_total`, facts are gauges, and there are neither units nor an end mark.
fn prometheus_text(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, which decides the form of the name.
    let mut help = "";
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            writeln!(text, "{line}")?;
            continue;
        };
        if let Some(of) = comment.strip_prefix("HELP ") {
            help = of.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = comment
            .strip_prefix("TYPE ")
            .and_then(|of| of.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => (Kind::Counter.suffix(), "counter"),
                "info" => (Kind::Info.suffix(), "gauge"),
                kind => ("", kind),
            };
            writeln!(
                text,
                "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}"
            )?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Unit;

    const fn family(name: &'static str, kind: Kind, unit: Option<Unit>) -> Family {
        Family {
            name,
            kind,
            unit,
            labels: &[],
            help: "A figure.",
        }
    }

    #[derive(Debug)]
    struct Example;

    impl Snapshot for Example {
        fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
            let bytes = family("lb_x_bytes_total", Kind::Counter, Some(Unit::Bytes));
            writer.family(&bytes, |samples| {
                samples.add(&[("vip", "a \"b\"\\\n")], Value::Count(7))?;
                samples.add(&[], Value::Number(0.5))
            })?;
            let share = family("lb_share_ratio", Kind::Gauge, Some(Unit::Ratio));
            writer.family(&share, |samples| {
                samples.add(&[("vip", "a"), ("real", "b")], Value::Number(0.25))?;
                samples.add(&[("vip", "c")], Value::Number(f64::NAN))?;
                samples.add(&[], Value::Number(1.0))
            })?;
            let info = family("lb_build_info", Kind::Info, None);
            writer.family(&info, |samples| {
                samples.add(&[("version", "1")], Value::Fact)
            })?;
            let mut histogram = Histogram::new(&[0.1]);
            histogram.observe(Duration::from_millis(500));
            let lasted = family("lb_lasted_seconds", Kind::Histogram, Some(Unit::Seconds));
            writer.family(&lasted, |samples| {
                samples.add(&[("vip", "a")], Value::Histogram(&histogram))
            })
        }
    }

    const SAMPLES: [&str; 4] = [
        "lb_x_bytes_total{vip=\"a \\\"b\\\"\\\\\\n\"} 7\nlb_x_bytes_total 0.5\n",
        "lb_share_ratio{vip=\"a\",real=\"b\"} 0.25\nlb_share_ratio 1\n",
        "lb_build_info{version=\"1\"} 1\n",
        "lb_lasted_seconds_sum{vip=\"a\"} 0.5\nlb_lasted_seconds_count{vip=\"a\"} 1\n\
         lb_lasted_seconds_bucket{le=\"0.1\",vip=\"a\"} 0\nlb_lasted_seconds_bucket{le=\"+Inf\",vip=\"a\"} 1\n",
    ];

    #[test]
    fn openmetrics_has_units_and_an_end() {
        let [bytes, share, info, lasted] = SAMPLES;
        assert_eq!(
            render(Example, Format::OpenMetrics).unwrap(),
            format!(
                "# HELP lb_x_bytes A figure.\n# TYPE lb_x_bytes counter\n# UNIT lb_x_bytes bytes\n{bytes}\
                 # HELP lb_share_ratio A figure.\n# TYPE lb_share_ratio gauge\n# UNIT lb_share_ratio ratio\n{share}\
                 # HELP lb_build A figure.\n# TYPE lb_build info\n{info}\
                 # HELP lb_lasted_seconds A figure.\n# TYPE lb_lasted_seconds histogram\n\
                 # UNIT lb_lasted_seconds seconds\n{lasted}# EOF\n"
            )
        );
    }

    #[test]
    fn prometheus_text_names_the_samples() {
        let [bytes, share, info, lasted] = SAMPLES;
        assert_eq!(
            render(Example, Format::Prometheus).unwrap(),
            format!(
                "# HELP lb_x_bytes_total A figure.\n# TYPE lb_x_bytes_total counter\n{bytes}\
                 # HELP lb_share_ratio A figure.\n# TYPE lb_share_ratio gauge\n{share}\
                 # HELP lb_build_info A figure.\n# TYPE lb_build_info gauge\n{info}\
                 # HELP lb_lasted_seconds A figure.\n# TYPE lb_lasted_seconds histogram\n{lasted}"
            )
        );
    }

    #[test]
    fn the_request_names_the_format() {
        let format = |accept: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            Format::negotiate(&headers)
        };
        assert_eq!(format(None), Format::Prometheus);
        assert_eq!(format(Some("*/*")), Format::Prometheus);
        // The header of Prometheus 2.42.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                          q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(format(Some(prometheus)), Format::OpenMetrics);
    }
}
