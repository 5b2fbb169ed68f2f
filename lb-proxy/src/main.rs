//! `lb-proxy`: see `lb-proxy --help`.
//!
//! Exit status: 0, 1 on failure, 2 on wrong usage.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;

/// Chosen by measurement: requests cost less CPU than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // clap ends with status 2 on wrong usage, after saying what is right.
    let Err(error) = commands::Arguments::parse().run() else {
        return ExitCode::SUCCESS;
    };
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        usage.exit();
    }
    eprintln!("lb-proxy: {}", message(&error));
    ExitCode::FAILURE
}

/// The error with its causes, each once: some errors tell their cause themselves.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        if message.is_empty() {
            message.push_str(cause);
        } else if !message.contains(cause) {
            message.push_str(": ");
            message.push_str(cause);
        }
    }
    message
}
