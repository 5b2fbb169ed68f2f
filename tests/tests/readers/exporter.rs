//! A Prometheus node exporter, read by the built-in expressions and by custom ones.

use lb_clients::load::{
    reader,
    reading::{Quantity, Readings},
};
use lb_tests::{Namespace, server::NodeExporter};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{find, read, source, subject, value};

const PORT: u16 = 9_100;

pub fn a_node_exporter_is_read() {
    let namespace = Namespace::new("exporter").unwrap();
    let _exporter = NodeExporter::start(&namespace, PORT).unwrap();
    namespace
        .block_on(async {
            for settings in [
                json!({"kind": "node-exporter"}),
                // The same as a custom expression, with a label to match.
                json!({
                    "kind": "prometheus",
                    "port": PORT,
                    "values": {
                        "utilisation": "1 - sum(rate(node_cpu_seconds_total{mode='idle'})) \
                                        / sum(rate(node_cpu_seconds_total{mode!~'guest.*'}))",
                        "memory": "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                        "run_queue": "node_load1",
                    },
                }),
            ] {
                let mut settings = settings;
                settings["interval"] = "1s".into();
                settings["timeout"] = "1s".into();
                let (sender, mut reports) = mpsc::channel(16);
                let _reader = reader::start(&source(settings.clone()), subject(), sender);
                let readings: Readings = find(&mut reports, "a utilisation", |report| {
                    read(report).filter(|readings| value(readings, Quantity::Utilisation).is_some())
                })
                .await?;
                for quantity in [Quantity::Utilisation, Quantity::Memory] {
                    let fraction = value(&readings, quantity);
                    assert!(
                        fraction.is_some_and(|fraction| (0.0..=1.0).contains(&fraction)),
                        "{settings}: {readings:?}"
                    );
                }
                assert_eq!(
                    value(&readings, Quantity::RunQueue).is_some(),
                    settings["kind"] == "prometheus",
                    "{settings}: {readings:?}"
                );
            }
            Ok(())
        })
        .unwrap();
}
