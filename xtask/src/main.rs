//! The contributor's commands: `cargo xtask setup`, `run`, `test`, `bench` and `image`.

mod bench;
mod command;
mod host;
mod image;
mod initramfs;
mod kernels;
mod programs;
mod run;
mod setup;
mod suites;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, shows, tests and measures the load balancer. Needs a Debian or Ubuntu machine, root and rustup.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Installs what this machine lacks, and says what and why.
    Setup(setup::Arguments),
    /// Demonstrates the balancer on a testbed of network namespaces, or runs it on this host.
    Run(run::Arguments),
    /// Runs the checks and tests.
    Test(test::Arguments),
    /// Measures the balancer on this machine (`cargo xtask bench --help`).
    Bench(bench::Arguments),
    /// Builds the image of virtual machines that run the proxy, the agent, or any program.
    Image(image::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(arguments) => setup::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        // Prints its own errors: its closing line must come last.
        Verb::Test(arguments) => return test::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Image(arguments) => image::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Print the reason without a backtrace of this program, which would not help the user.
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
