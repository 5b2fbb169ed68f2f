//! `lb-proxy follow`: for whoever keeps the configuration of a proxy on another machine.

use std::{
    fs,
    io::{self, Read as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use lb_clients::peer::proxy;
use lb_proxy::config::{self, Config};

/// The longest configuration, in bytes.
const LONGEST: u64 = 16 << 20;

/// Arguments of `follow`.
#[derive(Debug, clap::Args)]
pub struct Follow {
    /// The configuration file of the proxy.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Follow {
    pub fn execute(self) -> anyhow::Result<()> {
        let mut text = String::new();
        let read = io::stdin().take(LONGEST).read_to_string(&mut text);
        read.context("reading the configuration")?;
        let path = &self.config;
        let config = Config::parse(&text, path)?;
        let Some(admin) = config.proxy.admin else {
            bail!(
                "{} has no `admin`, so its proxy cannot be told",
                path.display()
            );
        };
        let is_there = fs::read_to_string(path).is_ok_and(|before| before == text);
        if !is_there {
            config::replace(path, &text).with_context(|| format!("writing {}", path.display()))?;
        }
        let checksum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime
            .block_on(proxy::follow(admin, &checksum))
            .map_err(anyhow::Error::msg)
    }
}
