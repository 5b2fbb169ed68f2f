//! A Prometheus node exporter, by the preset and by expressions of one's own.

use lb_clients::load::{
    reader,
    reading::{Quantity, Readings},
};
use lb_tests::{Namespace, server::NodeExporter};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{find, read, source, subject, value};

const PORT: u16 = 9_100;

#[test]
fn a_node_exporter_is_read() {
    let namespace = Namespace::new("exporter").unwrap();
    let _exporter = NodeExporter::start(&namespace, PORT).unwrap();
    namespace
        .block_on(async {
            for settings in [
                json!({"kind": "node-exporter"}),
                // The same in one's own words, and a label that is to match.
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
                let told: Readings = find(&mut reports, "a utilisation", |report| {
                    read(report).filter(|told| value(told, Quantity::Utilisation).is_some())
                })
                .await?;
                for quantity in [Quantity::Utilisation, Quantity::Memory] {
                    let fraction = value(&told, quantity);
                    assert!(
                        fraction.is_some_and(|fraction| (0.0..=1.0).contains(&fraction)),
                        "{settings}: {told:?}"
                    );
                }
                assert_eq!(
                    value(&told, Quantity::RunQueue).is_some(),
                    settings["kind"] == "prometheus",
                    "{settings}: {told:?}"
                );
            }
            Ok(())
        })
        .unwrap();
}
