//! `lbctl completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Context;
use crate::{cli::Cli, failure::Failure, output};

/// The arguments: a shell.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The shell; its start-up file should source the script
    shell: Shell,
}

/// Prints the script.
pub async fn run(_: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "lbctl", &mut script);
    output::write(&String::from_utf8_lossy(&script))
}
