//! Time to build a ring.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use comfy_table::Table;
use lb_bench::statistics::{median, quantile};
use lb_common::limits::MAX_RING_SLOTS;
use lb_model::ring::{Algorithm, default_slots};
use lb_steering::ring::build;
use serde::Serialize;

/// Time to build one ring.
#[derive(Debug, Serialize)]
pub struct RingFigure {
    /// The algorithm.
    pub algorithm: &'static str,
    /// Reals.
    pub reals: u32,
    /// Slots.
    pub slots: u32,
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// 90th percentile, in milliseconds.
    pub p90_ms: f64,
}

const BUILDS: usize = 15;

/// Builds rings of different weights, with the number of slots that the agent chooses and with the greatest one.
pub fn measure() -> Vec<RingFigure> {
    let mut figures = Vec::new();
    for algorithm in [Algorithm::Rendezvous, Algorithm::Maglev] {
        for count in [10, 100, 1_000] {
            let reals: Vec<(IpAddr, u32)> = (1..=count)
                .map(|number: u32| {
                    (
                        Ipv4Addr::from(0x0A1E_0000 + number).into(),
                        50 + number * 37 % 101,
                    )
                })
                .collect();
            let mut sizes = vec![default_slots(reals.len()), MAX_RING_SLOTS];
            sizes.dedup();
            for slots in sizes {
                figures.push(time(algorithm, count, slots, &reals));
            }
        }
    }
    let mut table = Table::new();
    table.set_header(["ring", "reals", "slots", "median ms", "p90 ms"]);
    for figure in &figures {
        table.add_row([
            figure.algorithm.to_owned(),
            figure.reals.to_string(),
            figure.slots.to_string(),
            format!("{:.2}", figure.median_ms),
            format!("{:.2}", figure.p90_ms),
        ]);
    }
    println!("\nTime to build a ring, {BUILDS} builds each\n{table}");
    figures
}

fn time(algorithm: Algorithm, count: u32, slots: u32, reals: &[(IpAddr, u32)]) -> RingFigure {
    let samples: Vec<f64> = (0..BUILDS as u64)
        .map(|seed| {
            let start = Instant::now();
            black_box(build(algorithm, seed, slots, black_box(reals)));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    RingFigure {
        algorithm: algorithm.name(),
        reals: count,
        slots,
        median_ms: median(&samples),
        p90_ms: quantile(&samples, 0.9),
    }
}
