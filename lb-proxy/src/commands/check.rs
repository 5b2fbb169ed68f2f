//! `lb-proxy check FILE`.

use std::path::PathBuf;

use lb_proxy::{config::Config, listen::tls};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file.
    file: PathBuf,
}

impl Check {
    pub fn execute(self) -> anyhow::Result<()> {
        let config = Config::read(&self.file)?;
        let file = self.file.display();
        // Another user may run the proxy, so this is no error of the file.
        for listener in &config.listeners {
            if let Err(error) = tls::configure(listener) {
                println!(
                    "{file}: on this host: listener {}: {error}",
                    listener.address
                );
            }
        }
        println!(
            "{file}: {} listeners, {} routes, {} services, nothing wrong",
            config.listeners.len(),
            config.routes.len(),
            config.services.len()
        );
        Ok(())
    }
}
