//! A web server: nginx on a host without limits.

use lb_tests::{Host, Real, Site, server::Nginx};

/// Where web servers listen.
const PORT: u16 = 80;

/// A web server and its host. What ends first stands first.
pub struct Web {
    nginx: Nginx,
    real: Real,
    host: Host,
}

impl Web {
    /// Makes a host, a real of `vips`, with a web server.
    pub fn start(site: &Site, vips: &[&str]) -> anyhow::Result<Self> {
        let host = site.real()?;
        Ok(Self {
            nginx: Nginx::start(&host, PORT)?,
            real: Real::start(&host, "eth0", vips)?,
            host,
        })
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether everything still runs.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.real.check()?;
        self.nginx.check()
    }

    /// Asks all of it to end and does not wait.
    pub fn ask_to_end(&mut self) {
        self.real.ask_to_end();
        self.nginx.ask_to_end();
    }
}
