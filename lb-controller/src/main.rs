//! `lb-controller`: see `lb-controller --help`.
//!
//! Exit status: 0, 1 on failure, 2 on wrong usage.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // clap ends with status 2 on wrong usage, after saying what is right.
    match commands::Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-controller: {}", lb_serve::message(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
