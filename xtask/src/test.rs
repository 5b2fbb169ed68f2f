//! `cargo xtask test`: everything that can be checked.

use crate::{
    command::{self, cargo},
    programs::{self, Profile},
    setup,
};

/// Arguments of `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only tests whose name contains this; formatting and lints are left out then.
    filter: Option<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    if arguments.filter.is_none() {
        command::run(cargo().args(["fmt", "--all", "--check"]))?;
        command::run(cargo().args(["clippy", "--all-targets", "--", "--deny", "warnings"]))?;
    }
    // Tests find the programs here and need not build them.
    let folder = programs::build(Profile::Debug)?;
    let mut test = cargo();
    // Each end-to-end test has a network of its own; their timing is not asserted, but a machine of few cores
    // is kept from doing everything at once.
    test.env("LB_BIN_DIR", folder)
        .args(["test", "--no-fail-fast"]);
    if let Some(filter) = &arguments.filter {
        test.arg(filter);
    }
    test.args(["--", "--test-threads", "2"]);
    command::run(&mut test)
}
