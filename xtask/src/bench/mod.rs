//! `cargo xtask bench`: builds what measures, optimised, and runs it.
//!
//! It is a program of its own (`measure/`): it contains the agent and with it the kernel half, which this
//! one must not, for set-up has to run where that cannot be built yet.

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

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    command::run(
        cargo()
            .args([
                "bench",
                "--quiet",
                "--package",
                "xtask",
                "--bench",
                "measure",
                "--",
            ])
            .args(&arguments.rest),
    )
}
