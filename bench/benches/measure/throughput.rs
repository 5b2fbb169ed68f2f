//! Packets per second through a veth pair: live frames, with the balancer in the driver's poll loop.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use comfy_table::Table;
use lb_bench::statistics::{median, quantile};
use lb_common::reason::Reason;
use serde::Serialize;

use crate::{
    balancer::{Balancer, FAR_END, Mode},
    packets::{Generator, scenario_job},
};

/// Packets per second.
#[derive(Debug, Serialize)]
pub struct ThroughputFigure {
    /// Flows.
    pub flows: u32,
    /// Packets sent per run.
    pub packets: u32,
    /// Median of the runs: packets forwarded per second, in millions.
    pub mpps: f64,
    /// 10th percentile of the runs, in the same unit.
    pub p10_mpps: f64,
    /// Fraction of the packets that was forwarded.
    pub forwarded: f64,
}

const PACKETS: u32 = 1_000_000;
const RUNS: usize = 7;

/// Measures and prints.
pub fn measure() -> anyhow::Result<Vec<ThroughputFigure>> {
    let mut figures = Vec::new();
    for flows in [1, 1 << 20] {
        let mut balancer = Balancer::start(1 << 20)?;
        balancer.set_mode(Mode::Settled)?;
        let mut generator = Generator::start(balancer.far(), FAR_END)?;
        let job = scenario_job(flows);
        let mut rates = Vec::new();
        let mut forwarded = 0;
        for _ in 0..RUNS {
            let before = sent(&balancer)?;
            let start = Instant::now();
            generator.send(balancer.far(), &job, PACKETS)?;
            let seconds = start.elapsed().as_secs_f64();
            let count = sent(&balancer)? - before;
            ensure!(count > 0, "no packet was forwarded");
            forwarded += count;
            rates.push(count as f64 / seconds / 1e6);
        }
        figures.push(ThroughputFigure {
            flows,
            packets: PACKETS,
            mpps: median(&rates),
            p10_mpps: quantile(&rates, 0.1),
            forwarded: forwarded as f64 / (f64::from(PACKETS) * RUNS as f64),
        });
    }
    let mut table = Table::new();
    table.set_header(["flows", "packets", "Mpps", "p10", "forwarded"]);
    for figure in &figures {
        table.add_row([
            figure.flows.to_string(),
            figure.packets.to_string(),
            format!("{:.2}", figure.mpps),
            format!("{:.2}", figure.p10_mpps),
            format!("{:.4}", figure.forwarded),
        ]);
    }
    println!("\nThrough a veth pair, sender, balancer and sink on one processor\n{table}");
    Ok(figures)
}

/// Returns the number of packets forwarded so far.
fn sent(balancer: &Balancer) -> anyhow::Result<u64> {
    let stats = balancer.stats()?;
    let interface = stats
        .interfaces
        .first()
        .context("the balancer has no interface")?;
    let count = interface
        .reasons
        .iter()
        .find(|(reason, _)| *reason == Reason::ForwardedTx);
    Ok(count.map_or(0, |(_, count)| *count))
}
