//! Measures the balancer: `cargo xtask bench`. `docs/performance.md` explains the figures.

mod balancer;
mod failover;
mod idle;
mod memory;
mod moving;
mod packets;
mod pools;
mod probes;
mod readers;
mod report;
mod resident;
mod ring;
mod starts;
mod supervised;
mod testbed;
mod throughput;
mod weights;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use lb_bench::machine;

use crate::report::Report;

/// Measures the balancer on this machine. Needs root. Packets stay within test runs of the kernel and network
/// namespaces of the benchmark's own.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", version)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_values_t = [Subject::All])]
    subjects: Vec<Subject>,

    /// Also write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The processor to measure on [default: the last].
    #[arg(long)]
    cpu: Option<usize>,

    #[command(flatten)]
    packets: packets::Options,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Everything below.
    All,
    /// Nanoseconds per packet in the kernel.
    Packets,
    /// Time to build a ring.
    Ring,
    /// Time from a changed weight to the last slot changed.
    Weights,
    /// Kernel memory of the tables.
    Memory,
    /// Packets per second through a veth pair.
    Throughput,
    /// CPU time of an idle agent.
    Idle,
    /// CPU time of 1,000 probes per second, and how soon frozen reals are detected.
    Probes,
    /// CPU time and memory of readers of load.
    Readers,
    /// CPU time and memory of an agent with 1,000 reals, each with a probe and a reader every 5 s.
    Supervised,
    /// Memory of an agent by what is configured.
    Resident,
    /// CPU time and memory of a controller with 100 pools of 20 instances that have nothing to do.
    Pools,
    /// Time from the decision to start an instance of a pool until it serves, for processes and containers.
    Starts,
    /// Time until the clients of a dead broker are served again.
    Failover,
    /// Long connections that break while weights change.
    Moving,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench`");
        return Ok(());
    }
    let cpu = machine::settle_on(arguments.cpu)?;
    let selected = |subject| {
        arguments
            .subjects
            .iter()
            .any(|one| *one == Subject::All || *one == subject)
    };
    let mut report = Report::new(cpu)?;
    if selected(Subject::Packets) {
        report.packets = packets::measure(&arguments.packets).context("measuring packets")?;
    }
    if selected(Subject::Ring) {
        report.ring = ring::measure();
    }
    if selected(Subject::Weights) {
        report.weights = weights::measure().context("measuring a change of weight")?;
    }
    if selected(Subject::Memory) {
        report.memory = memory::measure().context("measuring memory")?;
    }
    if selected(Subject::Throughput) {
        report.throughput = throughput::measure().context("measuring throughput")?;
    }
    if selected(Subject::Idle) {
        report.idle = Some(idle::measure().context("measuring the idle agent")?);
    }
    if selected(Subject::Probes) {
        report.probes = Some(probes::measure().context("measuring probes")?);
    }
    if selected(Subject::Readers) {
        report.readers = readers::measure().context("measuring readers of load")?;
    }
    if selected(Subject::Supervised) {
        report.supervised =
            Some(supervised::measure().context("measuring an agent with 1,000 reals")?);
    }
    if selected(Subject::Resident) {
        report.resident = resident::measure().context("measuring the memory of an agent")?;
    }
    if selected(Subject::Pools) {
        report.pools = Some(pools::measure().context("measuring a controller")?);
    }
    if selected(Subject::Starts) {
        report.starts = starts::measure().context("measuring the start of instances")?;
    }
    if selected(Subject::Failover) {
        report.failover =
            failover::measure().context("measuring the failover of a broker's clients")?;
    }
    if selected(Subject::Moving) {
        report.moving =
            Some(moving::measure().context("measuring connections while weights change")?);
    }
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}
