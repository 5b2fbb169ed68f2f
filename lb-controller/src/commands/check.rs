//! `lb-controller check FILE`.

use std::path::PathBuf;

use lb_controller::config::Config;

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
        if let [pool, ..] = config.exec_pools()[..]
            && !config.settings.exec_drivers
        {
            println!(
                "{file}: pool {pool} has a driver that runs a program: it is refused without `exec_drivers = true` or \
                 --exec-drivers"
            );
        }
        if config.settings.agents.is_empty()
            && let Some((pool, _)) = config.pools.iter().find(|(_, spec)| !spec.vips.is_empty())
        {
            println!("{file}: pool {pool} has VIPs, and no agent is named: see `agents`");
        }
        println!("{file}: {} pools, nothing wrong", config.pools.len());
        Ok(())
    }
}
