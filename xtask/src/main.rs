//! What a contributor types: `cargo xtask setup`, `run`, `test`, `bench`.

mod bench;
mod command;
mod programs;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Develops, tries and tests the load balancer. Needs a Debian or Ubuntu machine, root and rustup.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs what is missing; says what and why.
    Setup(setup::Arguments),
    /// Shows the balancer at work in a laboratory of network namespaces, or runs it on this host.
    Run(run::Arguments),
    /// Runs every check and test, after set-up.
    Test(test::Arguments),
    /// Measures the balancer on this machine (`cargo xtask bench --help`).
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(arguments) => setup::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever typed the command wants the reason, not where in this program it was found.
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
