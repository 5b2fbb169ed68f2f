//! `cargo xtask bench`: builds what measures, optimised, and runs it.
//!
//! It is a program of its own (`measure/`): it contains the agent and with it the kernel half, which this
//! one must not, for set-up has to run where that cannot be built yet. `cargo xtask bench steering` is another
//! one (`steering/`): it simulates, and needs no kernel. `cargo xtask bench live` is a third (`live/`): it takes ten
//! minutes, and measures the whole of the product and not a part.

// Programs that measure have no tests of their own; what decides in them is tested here.
#[cfg(test)]
#[path = "live/arrivals.rs"]
mod arrivals;
#[cfg(test)]
#[path = "live/figures.rs"]
mod figures;

use crate::{
    command::{self, cargo},
    setup,
};

/// Arguments of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What to measure and how; `--help` tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The subjects that are programs of their own.
const PROGRAMS: [&str; 2] = ["steering", "live"];

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    let (bench, rest) = match arguments.rest.split_first() {
        Some((first, rest)) if PROGRAMS.contains(&first.as_str()) => (first.as_str(), rest),
        _ => ("measure", arguments.rest.as_slice()),
    };
    command::run(
        cargo()
            .args([
                "bench",
                "--quiet",
                "--package",
                "xtask",
                "--bench",
                bench,
                "--",
            ])
            .args(rest),
    )
}
