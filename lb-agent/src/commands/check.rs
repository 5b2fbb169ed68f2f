//! `lb-agent check FILE`.

use std::path::PathBuf;

use lb_agent::{config::Config, control::running_programs};
use lb_clients::health::capacity::Capacity;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file.
    file: PathBuf,
}

impl Check {
    pub fn execute(self) -> anyhow::Result<()> {
        let config = Config::read(&self.file)?;
        if let [vip, ..] = running_programs(&config.intent)[..]
            && !config.agent.exec_checks
        {
            println!(
                "{}: VIP {vip} has a check that runs a program: the agent does not start without `exec_checks = true` \
                 or --exec-checks",
                self.file.display()
            );
        }
        // The agent that reads this file may run with other limits, so this is no error.
        if let Ok(capacity) = Capacity::of_this_host() {
            for shortage in capacity.shortages(&config.probes()) {
                println!("{}: on this host: {shortage}", self.file.display());
            }
        }
        println!(
            "{}: {} VIPs with {} reals, nothing wrong",
            self.file.display(),
            config.intent.len(),
            config.intent.reals()
        );
        Ok(())
    }
}
