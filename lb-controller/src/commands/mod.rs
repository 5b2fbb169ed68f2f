//! The verbs of `lb-controller`, one file each.

mod backup;
mod check;
mod docs;
mod run;

/// Operates pools of instances: starts, checks, scales, drains and relaunches them, and makes them reals of VIPs.
///
/// Exit status: 0, 1 on failure, 2 on wrong usage. LB_LOG sets what is logged, for example LB_LOG=debug; the default is
/// info.
#[derive(Debug, clap::Parser)]
#[command(name = "lb-controller", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Operate the stored pools and serve the API, in the foreground.
    ///
    /// SIGHUP reads the configuration file again. SIGTERM and SIGINT end it; instances run on, and the next run adopts
    /// them.
    Run(Box<run::Run>),
    /// Check a configuration file.
    Check(check::Check),
    /// Write a copy of the stored pools to a file, while no controller runs or from Redis; `lbctl pool backup` does it while
    /// one runs.
    Backup(backup::Backup),
    /// Put a copy in the place of the stored pools, while no controller runs.
    ///
    /// Without --yes it only shows the differences. Instances that the copy does not know are removed by the next controller
    /// after half a minute.
    Restore(backup::Restore),
    /// Write the reference pages of the settings.
    #[command(hide = true)]
    Docs(docs::Docs),
}

impl Arguments {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => {
                lb_serve::log_to_stderr(None);
                run.execute()
            }
            Command::Check(check) => check.execute(),
            Command::Backup(backup) => backup.execute(),
            Command::Restore(restore) => restore.execute(),
            Command::Docs(docs) => docs.execute(),
        }
    }
}
