//! `cargo xtask bench`: builds a benchmark with optimisations and runs it.
//!
//! Benchmarks are in a crate of their own (`bench/`): they contain the agent and with it the kernel programs, and
//! this crate must build before the kernel programs can. `measure` is the default, `cargo xtask bench live` measures
//! the whole product for ten minutes, `http` compares lb-proxy with other proxies, `nat` mode nat with nftables, `queue` measures the controller's commands,
//! `service` a controller of many load balancers; `steering`, `scaling` and `settling` simulate.

use crate::{
    command::{self, cargo},
    setup,
};

/// Arguments of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What to measure and how; `--help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Subjects with a benchmark program of their own.
const PROGRAMS: [&str; 8] = [
    "steering", "scaling", "live", "queue", "service", "settling", NAT, HTTP,
];
/// The one that compares with other proxies.
const HTTP: &str = "http";
/// The one that compares with the kernel's own translation.
const NAT: &str = "nat";

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    let (bench, rest) = match arguments.rest.split_first() {
        Some((first, rest)) if PROGRAMS.contains(&first.as_str()) => (first.as_str(), rest),
        _ => ("measure", arguments.rest.as_slice()),
    };
    if bench == HTTP {
        setup::ensure_proxies()?;
    }
    if bench == NAT {
        setup::ensure_packet_filter()?;
    }
    let words = [
        "bench",
        "--quiet",
        "--package",
        "lb-bench",
        "--bench",
        bench,
        "--",
    ];
    command::run(cargo().args(words).args(rest))
}
