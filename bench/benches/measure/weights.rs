//! Time from a change of one real's weight until the last slot is written.

use std::time::Instant;

use anyhow::Context as _;
use comfy_table::Table;
use lb_bench::statistics::{median, quantile};
use lb_dataplane::Dataplane as _;
use serde::Serialize;

use crate::balancer::{Balancer, service};

/// Time of one step.
#[derive(Debug, Serialize)]
pub struct WeightFigure {
    /// The step.
    pub step: &'static str,
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// 90th percentile, in milliseconds.
    pub p90_ms: f64,
}

const REALS: u16 = 100;
const CHANGES: u32 = 40;

/// Changes a weight repeatedly by 10 % and back.
pub fn measure() -> anyhow::Result<Vec<WeightFigure>> {
    let mut balancer = Balancer::start(1 << 17)?;
    balancer.set(&service(1, REALS, 100))?;
    let (ring, tables): (Vec<f64>, Vec<f64>) = balancer
        .enter(|plane| {
            (0..CHANGES)
                .map(|change| {
                    let start = Instant::now();
                    let changed = service(1, REALS, if change % 2 == 0 { 110 } else { 100 });
                    let built = start.elapsed();
                    // New flows see the change once this returns.
                    plane.set_service(&changed)?;
                    let all = start.elapsed();
                    Ok((built.as_secs_f64() * 1e3, (all - built).as_secs_f64() * 1e3))
                })
                .collect::<anyhow::Result<Vec<_>>>()
        })?
        .context("changing a weight")?
        .into_iter()
        .unzip();
    let total: Vec<f64> = ring.iter().zip(&tables).map(|(a, b)| a + b).collect();
    let figures: Vec<WeightFigure> = [
        ("build the ring", &ring),
        ("write the slots that differ", &tables),
        ("both", &total),
    ]
    .into_iter()
    .map(|(step, samples)| WeightFigure {
        step,
        median_ms: median(samples),
        p90_ms: quantile(samples, 0.9),
    })
    .collect();
    let mut table = Table::new();
    table.set_header(["step", "median ms", "p90 ms"]);
    for figure in &figures {
        table.add_row([
            figure.step.to_owned(),
            format!("{:.2}", figure.median_ms),
            format!("{:.2}", figure.p90_ms),
        ]);
    }
    println!("\nThe weight of one of {REALS} reals changed, {CHANGES} times\n{table}");
    Ok(figures)
}
