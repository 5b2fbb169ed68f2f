//! `lb-agent`: see `lb-agent --help`.
//!
//! Exit status: 0, 1 on failure, 2 on wrong usage.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // clap ends with status 2 on wrong usage, after saying what is right.
    let Err(error) = commands::Arguments::parse().run() else {
        return ExitCode::SUCCESS;
    };
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        usage.exit();
    }
    eprintln!("lb-agent: {}", message(&error));
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

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading x: {source}")]
    struct TellsItsCause {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_told_once() {
        let source = std::io::Error::other("disk on fire\n");
        let error = anyhow::Error::new(TellsItsCause { source }).context("starting");
        assert_eq!(message(&error), "starting: reading x: disk on fire");

        let error = Err::<(), _>(std::io::Error::other("gone"))
            .context("opening y")
            .unwrap_err();
        assert_eq!(message(&error), "opening y: gone");
    }
}
