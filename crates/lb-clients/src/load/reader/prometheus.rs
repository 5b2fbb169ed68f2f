//! Metrics of any exporter in Prometheus' text format, evaluated with the operator's expressions.

use super::{
    kind::{LoadReader, Reader, SourceTarget, Transport},
    shared::{
        metrics::{Metrics, MetricsPage},
        peer::validate_path,
    },
};
use crate::load::{expression::Expression, values::Values};

lb_model::settings! {
    /// Metrics in Prometheus' text format.
    pub(super) struct Settings {
        /// Path of the metrics; may contain `{address}` and `{real}`.
        path: String = "/metrics".to_owned();
        /// An expression for each quantity, such as `1 - rate(idle_seconds_total) / 4`.
        values: Values<Expression>;
    }
    validate(settings) {
        validate_path(&settings.path)?;
        settings.values.validate("utilisation = \"busy / 100\"")
    }
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Prometheus>();

/// Reads metrics of any exporter.
pub(super) struct Prometheus;

impl LoadReader for Prometheus {
    const NAME: &'static str = "prometheus";
    const HELP: &'static str = "Reads metrics in Prometheus' text format over HTTP and evaluates an expression for \
                                each quantity.";
    const TRANSPORT: Transport = Transport::Http;

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        Reader::Poll(Box::new(MetricsPage::new(
            target.page(&settings.path),
            Metrics::new(settings.values),
        )))
    }
}
