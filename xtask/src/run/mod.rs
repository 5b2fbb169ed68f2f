//! `cargo xtask run`: the balancer at work.

mod broker;
mod clients;
mod demo;
mod duration;
mod episode;
mod host;
mod interrupt;
mod laboratory;
mod reals;
mod report;
mod screen;
mod script;
mod stats;
mod story;
mod table;
mod web;
mod why;

use std::{path::PathBuf, time::Duration};

use crate::setup;

/// Arguments of `cargo xtask run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// End after this time, for example 20s or 2m; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,

    /// Write the final figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Arguments of `lb-agent run`: then it runs on this host and there is no laboratory.
    #[arg(last = true, value_name = "AGENT ARGUMENT", conflicts_with_all = ["time", "report"])]
    agent: Vec<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    if arguments.agent.is_empty() {
        demo::run(arguments.time, arguments.report.as_deref())
    } else {
        host::run(&arguments.agent)
    }
}
