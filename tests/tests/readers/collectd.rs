//! collectd with the plugins cpu, memory, load and write_prometheus.

use std::fs;

use lb_clients::load::reading::Quantity;
use lb_tests::{Namespace, server::wait_accepting};
use serde_json::json;
use tempfile::TempDir;

use crate::{PATIENCE, utilisation_and_memory, value};

const PORT: u16 = 9_103;

pub fn collectd_is_read() {
    let namespace = Namespace::new("collectd").unwrap();
    // collectd looks its own address up with AI_ADDRCONFIG, which counts no loopback address.
    namespace
        .run(["ip", "address", "add", "10.9.9.1/32", "dev", "lo"])
        .unwrap();
    let folder = TempDir::with_prefix("lb-collectd-").unwrap();
    let path = folder.path().display();
    let configuration = folder.path().join("collectd.conf");
    fs::write(
        &configuration,
        format!(
            "Hostname \"real\"\nFQDNLookup false\nInterval 1\nBaseDir \"{path}\"\nPIDFile \"{path}/pid\"\n\
             TypesDB \"/usr/share/collectd/types.db\"\nLoadPlugin cpu\nLoadPlugin memory\nLoadPlugin load\n\
             LoadPlugin write_prometheus\n<Plugin write_prometheus>\n  Port \"{PORT}\"\n</Plugin>\n"
        ),
    )
    .unwrap();
    let mut collectd = namespace
        .start(
            "collectd",
            "collectd",
            ["-f", "-C", &configuration.to_string_lossy()],
        )
        .unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], PORT));
    wait_accepting(&namespace, address, &mut collectd, PATIENCE).unwrap();
    namespace
        .block_on(async {
            let settings = json!({"kind": "collectd", "interval": "1s", "timeout": "1s"});
            let readings = utilisation_and_memory(&settings).await?;
            assert!(
                value(&readings, Quantity::RunQueue).is_some(),
                "{readings:?}"
            );
            Ok(())
        })
        .unwrap();
}
