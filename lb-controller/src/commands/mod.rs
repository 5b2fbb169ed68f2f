//! The verbs of `lb-controller`, one file each.

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
    /// Write the reference page of the settings.
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
            Command::Docs(docs) => docs.execute(),
        }
    }
}
