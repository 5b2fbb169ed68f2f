//! A Prometheus node exporter, read by the built-in expressions and by custom ones.

use lb_clients::load::reading::Quantity;
use lb_tests::{Namespace, server::NodeExporter};
use serde_json::json;

use crate::{utilisation_and_memory, value};

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
                let readings = utilisation_and_memory(&settings).await?;
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
