//! The verbs of `lb-proxy`, one file each.

mod check;
mod docs;
mod follow;
mod run;

/// The HTTP tier of the load balancer: it routes requests to services, chooses an instance, and caches static answers.
///
/// Exit status: 0, 1 on failure, 2 on wrong usage. LB_LOG sets what is logged, for example LB_LOG=debug; the default is
/// info.
#[derive(Debug, clap::Parser)]
#[command(name = "lb-proxy", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve, in the foreground.
    ///
    /// SIGHUP reads the configuration file and the certificates again; SIGTERM and SIGINT end it when open requests are
    /// answered. Without a file, the variables HOST_PORT_HTTP_BALANCER, HOST_PORT_WS_DEPLOYMENT_AGENT, TARGET_PORT,
    /// CACHE_CAPACITY and REQUEST_TIMEOUT configure it.
    Run(run::Run),
    /// Check a configuration file.
    Check(check::Check),
    /// Have a proxy that runs follow the configuration on standard input: it is written in the place of the file, and read again.
    ///
    /// lb-controller does so with nodes of load balancers on other hosts.
    Follow(follow::Follow),
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
            Command::Follow(follow) => follow.execute(),
            Command::Docs(docs) => docs.execute(),
        }
    }
}
