//! The demonstration that `cargo xtask run` starts: real clients reach real servers through the balancer, brokers
//! suffer faults, and the screen shows what the balancer does about them.

mod broker;
mod clients;
mod demonstration;
mod fault_window;
mod interrupt;
mod reals;
mod report;
mod schedule;
mod screen;
mod stats;
mod table;
mod testbed;
mod timeline;
mod why;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

/// Demonstrates the balancer on a testbed of network namespaces. Needs root.
#[derive(Debug, Parser)]
#[command(name = "lb-demo", version)]
struct Arguments {
    /// End after this time, for example 20s or 2m; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,

    /// Write the final figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match demonstration::run(arguments.time, arguments.report.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    lb_model::duration::parse(text)
        .map_err(|_| format!("`{text}` is not a duration such as 500ms, 20s, 2m or 1h30m"))
}
