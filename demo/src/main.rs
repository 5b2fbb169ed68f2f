//! The demonstrations that `cargo xtask run` starts: real clients reach real servers through the balancer, faults happen, and
//! the screen shows what the balancer does about them. `mqtt` shows brokers behind VIPs, `web` a pool of web servers that scales
//! itself behind the HTTP tier.

mod clients;
mod interrupt;
mod log;
mod mqtt;
mod pacing;
mod report;
mod rounds;
mod shell;
mod stats;
mod table;
mod terminal;
mod violations;
mod web;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};

use self::interrupt::Interrupt;

/// Demonstrates the balancer on a testbed of network namespaces. Needs root.
#[derive(Debug, Parser)]
#[command(name = "lb-demo", version)]
struct Arguments {
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Demonstration::Mqtt)]
    demo: Demonstration,

    /// End after this time, for example 20s or 2m; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,

    /// Write the final figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// What runs the instances of `--demo web`: Docker where it can be had, unless this names another.
    #[arg(long, value_enum)]
    driver: Option<web::Driver>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Demonstration {
    /// Brokers and web servers behind VIPs; brokers are loaded, frozen and killed.
    Mqtt,
    /// A pool of web servers behind the HTTP tier; its load rises and falls, instances are crashed and killed.
    Web,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let interrupt = Interrupt::new()?;
    let (time, report) = (arguments.time, arguments.report.as_deref());
    match arguments.demo {
        Demonstration::Web => with_testbed(web::WebTestbed::new()?, |testbed| {
            web::show(testbed, arguments.driver, time, report, &interrupt)
        }),
        Demonstration::Mqtt => {
            anyhow::ensure!(
                arguments.driver.is_none(),
                "--driver is an option of --demo web"
            );
            with_testbed(mqtt::DemoTestbed::new()?, |testbed| {
                mqtt::show(testbed, time, report, &interrupt)
            })
        }
    }
}

/// Shows a testbed and removes it, after a failure, too; a panic drops it as well.
fn with_testbed<T>(
    mut testbed: T,
    show: impl FnOnce(&mut T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let outcome = show(&mut testbed);
    println!("removing the testbed…");
    drop(testbed);
    println!("the testbed is removed");
    outcome
}

fn duration(text: &str) -> Result<Duration, String> {
    lb_model::duration::parse(text)
        .map_err(|_| format!("`{text}` is not a duration such as 500ms, 20s, 2m or 1h30m"))
}
