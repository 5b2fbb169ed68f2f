//! An `lb-proxy` on a host of its own, as a real of the VIP.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use lb_tests::{Backend, Host, Process, Real, binary, server::Server};
use tempfile::TempDir;

use super::pool::Service;

/// Port of its administration, with metrics and health.
pub const ADMIN_PORT: u16 = 9470;
/// How long it may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// A running proxy.
pub struct Proxy {
    // Dropped before its folder.
    process: Process,
    _folder: TempDir,
    admin: SocketAddr,
}

/// The configuration of all proxies; the members of the service come from the pool's stream.
pub fn configuration(stream: &str) -> String {
    format!(
        r#"admin = "0.0.0.0:{ADMIN_PORT}"

[[listener]]
address = "0.0.0.0:80"

[[route]]
service = "web"

[[service]]
name = "web"
pool = "{stream}"
connect_timeout = "250ms"
slow_start = "2s"
"#
    )
}

/// Makes `host` a real of `vip`, with a proxy.
pub fn start(host: Host, vip: &str, configuration: &str) -> anyhow::Result<Backend<Proxy>> {
    let folder = TempDir::with_prefix("lb-proxy-").context("making a folder for a proxy")?;
    let path = folder.path().join("proxy.toml");
    fs::write(&path, configuration)?;
    let path = path.display().to_string();
    let mut process = host.start("lb-proxy", binary("lb-proxy")?, ["run", "--config", &path])?;
    process.wait_line("lb-proxy:", "ready", START)?;
    let real = Some(Real::start(&host, "eth0", &[vip])?);
    Ok(Backend {
        server: Proxy {
            process,
            _folder: folder,
            admin: (host.v4, ADMIN_PORT).into(),
        },
        real,
        host,
    })
}

impl Proxy {
    /// Returns what it knows of its service.
    pub fn service(&self, host: &Host) -> anyhow::Result<Service> {
        let lbctl = binary("lbctl")?.display().to_string();
        let admin = self.admin.to_string();
        let text = host.run([
            lbctl.as_str(),
            "-o",
            "json",
            "http",
            "--proxy",
            &admin,
            "stats",
        ])?;
        let mut services: Vec<Service> = serde_json::from_str(&text)
            .context("reading the output of `lbctl -o json http stats`")?;
        services.pop().context("the proxy has no service")
    }
}

impl Server for Proxy {
    fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }

    fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }
}
