//! The log of a program.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Logs to stderr by the variable `LB_LOG`, and by a directive of the program's own, if it has one that can be read.
pub fn log_to_stderr(own: Option<String>) {
    let mut filter = EnvFilter::try_from_env("LB_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    if let Some(directive) = own.and_then(|own| own.parse().ok()) {
        filter = filter.add_directive(directive);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
