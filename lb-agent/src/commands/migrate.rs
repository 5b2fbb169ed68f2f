//! `lb-agent migrate`.

use std::path::PathBuf;

use anyhow::bail;
use lb_agent::config::Config;
use lb_dataplane::options::Options;

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// Layout that the tables are to have: the current one of this build or the previous one.
    #[arg(long, value_name = "VERSION")]
    layout: u32,
    /// Configuration file of the agent: its pins, and its interfaces in their order.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface that the agent is attached to, in the order of its configuration; give it again for more.
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    iface: Vec<String>,
    /// Directory of the pins [default: /sys/fs/bpf/lb-agent].
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
}

impl Migrate {
    pub fn execute(self) -> anyhow::Result<()> {
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let pins = self.pins.unwrap_or_else(|| config.agent.pins.into());
        let interfaces = if self.iface.is_empty() {
            config.agent.interfaces
        } else {
            self.iface
        };
        let options = Options {
            pins,
            gue_port: config.agent.gue_port,
            tunnel_ends: config.agent.tunnel_ends.iter().copied().collect(),
            ..Options::new(interfaces)
        };
        let pins = options.pins.display();
        match lb_dataplane::migrate(&options, self.layout)? {
            None => {
                bail!("nothing is attached with pins in {pins}, so there are no tables to migrate")
            }
            Some(migration) => println!(
                "the tables in {pins} have layout {} now (before: {}); packets flow on {}",
                migration.to,
                migration.from,
                migration.interfaces.join(", ")
            ),
        }
        Ok(())
    }
}
