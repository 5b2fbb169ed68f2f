//! The verbs of `lb-agent`, one file each.

mod backup;
mod check;
mod detach;
mod docs;
mod doctor;
mod host;
mod migrate;
mod real;
mod report;
mod run;

use std::time::Duration;

use lb_model::duration;

/// Under which the kernel programs' messages are logged: the name of their program.
const KERNEL_TARGET: &str = "balancer";

/// A layer-4 load balancer's agent: it stores VIPs and reals and keeps the kernel's tables in line with them.
///
/// Exit status: 0, 1 on failure, 2 on wrong usage. LB_LOG sets what is logged, for example
/// LB_LOG=debug or LB_LOG=lb_agent::control=debug; the default is info.
#[derive(Debug, clap::Parser)]
#[command(name = "lb-agent", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Attach to interfaces, restore the stored VIPs and serve the API, in the foreground.
    ///
    /// SIGHUP reads the configuration file again. SIGTERM and SIGINT end it; packets flow on with the last tables until
    /// `lb-agent detach`.
    Run(run::Run),
    /// Check a configuration file.
    Check(check::Check),
    /// Stop forwarding: take the programs off the interfaces and remove the pinned tables.
    Detach(detach::Detach),
    /// Give the pinned tables another layout while packets flow, so that another build can adopt them.
    ///
    /// An upgrade needs no such step: `lb-agent run` migrates tables of the previous layout. To go back to the build
    /// before, stop the agent, run `lb-agent migrate --layout VERSION` of the newer build, and start the older one.
    Migrate(migrate::Migrate),
    /// Make this host a real of some VIPs, and undo it on exit.
    ///
    /// SIGTERM, SIGINT and SIGHUP end it.
    Real(real::Real),
    /// Look for what keeps this host from being a real of some VIPs, and say what mends it; `lbctl doctor` examines a
    /// balancer.
    Doctor(doctor::Doctor),
    /// Report how loaded this host, a container or a process is, over gRPC, HTTP and MQTT.
    ///
    /// A balancer reads it with the load sources grpc, http-json, prometheus or mqtt-topic. SIGTERM, SIGINT and
    /// SIGHUP end it.
    Report(report::Report),
    /// Run instances on this machine for a controller elsewhere, and connect to it.
    ///
    /// Join once with a token of `lbctl host token`; later runs need neither token nor address. SIGTERM, SIGINT and SIGHUP
    /// end it, and instances run on.
    Host(host::Host),
    /// Copy the database of an agent that does not run; `lbctl backup` copies that of one that does.
    Backup(backup::Backup),
    /// Make a copy the database again, and show first what that changes.
    Restore(backup::Restore),
    /// Write the reference pages of the settings.
    #[command(hide = true)]
    Docs(docs::Docs),
}

impl Arguments {
    /// Does it.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(run) => run.execute(),
            Command::Check(check) => check.execute(),
            Command::Detach(detach) => {
                log_to_stderr(None);
                detach.execute()
            }
            Command::Migrate(migrate) => {
                log_to_stderr(None);
                migrate.execute()
            }
            Command::Real(real) => {
                log_to_stderr(None);
                real.execute()
            }
            Command::Doctor(doctor) => doctor.execute(),
            Command::Report(report) => report.execute(),
            Command::Host(host) => host.execute(),
            Command::Backup(backup) => backup.execute(),
            Command::Restore(restore) => restore.execute(),
            Command::Docs(docs) => docs.execute(),
        }
    }
}

/// Reads how long a vital part of `real` or `report` may make no progress.
fn watchdog(text: &str) -> Result<Duration, String> {
    let limit = duration::parse(text)?;
    if (Duration::from_secs(5)..=Duration::from_secs(3_600)).contains(&limit) {
        return Ok(limit);
    }
    Err("write a time from 5s to 1h".to_owned())
}

/// Logs to stderr by `LB_LOG`, and the kernel programs' messages from this level on.
fn log_to_stderr(kernel_log: Option<log::Level>) {
    lb_serve::log_to_stderr(kernel_log.map(|level| format!("{KERNEL_TARGET}={level}")));
}
