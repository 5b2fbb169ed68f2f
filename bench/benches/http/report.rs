//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use comfy_table::Table;
use lb_bench::statistics::median;
use serde::Serialize;

use crate::{load::Loaded, memory::MemoryFigure, proxies::Kind, scenario::Scenario};

/// One run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    pub round: usize,
    pub kind: Kind,
    pub loaded: Loaded,
}

/// A row: medians of the rounds.
#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    kind: Kind,
    requests_per_second: f64,
    per_cpu_second: f64,
    p50: f64,
    p99: f64,
    /// Multiples of HAProxy's in the same round.
    ratio_per_cpu_second: f64,
    least_ratio: f64,
    greatest_ratio: f64,
    ratio_requests_per_second: f64,
    ratio_p99: f64,
    aim: Option<f64>,
}

/// All rows.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    rows: Vec<Row>,
    pub memory: Vec<MemoryFigure>,
}

impl Report {
    /// Adds a scenario's rows.
    pub fn add(&mut self, scenario: &Scenario, samples: &[Sample]) {
        for kind in Kind::ALL {
            let own: Vec<&Sample> = samples.iter().filter(|one| one.kind == kind).collect();
            let all = |figure: &dyn Fn(&Loaded) -> f64| -> Vec<f64> {
                own.iter().map(|sample| figure(&sample.loaded)).collect()
            };
            let ratios = |figure: &dyn Fn(&Loaded) -> f64| -> Vec<f64> {
                let base = |round| {
                    samples
                        .iter()
                        .find(|one| one.round == round && one.kind == Kind::HAProxy)
                };
                own.iter()
                    .filter_map(|sample| {
                        Some(figure(&sample.loaded) / figure(&base(sample.round)?.loaded))
                    })
                    .collect()
            };
            let of_cpu = ratios(&Loaded::per_cpu_second);
            self.rows.push(Row {
                scenario: scenario.name,
                kind,
                requests_per_second: median(&all(&|loaded| loaded.requests_per_second)),
                per_cpu_second: median(&all(&Loaded::per_cpu_second)),
                p50: median(&all(&|loaded| loaded.p50)),
                p99: median(&all(&|loaded| loaded.p99)),
                ratio_per_cpu_second: median(&of_cpu),
                least_ratio: of_cpu.iter().copied().fold(f64::INFINITY, f64::min),
                greatest_ratio: of_cpu.iter().copied().fold(0.0, f64::max),
                ratio_requests_per_second: median(&ratios(&|loaded| loaded.requests_per_second)),
                ratio_p99: median(&ratios(&|loaded| loaded.p99)),
                aim: scenario.aim.filter(|_| kind == Kind::LbProxy),
            });
        }
    }

    /// Writes the tables.
    pub fn print(&self) {
        let mut table = Table::new();
        table.set_header([
            "scenario",
            "proxy",
            "requests/s",
            "requests per CPU s",
            "p50 ms",
            "p99 ms",
            "× per CPU s",
            "least to greatest",
            "aim",
            "× requests/s",
            "× p99",
        ]);
        for row in &self.rows {
            table.add_row([
                row.scenario.to_owned(),
                row.kind.to_string(),
                format!("{:.0}", row.requests_per_second),
                format!("{:.0}", row.per_cpu_second),
                format!("{:.2}", row.p50),
                format!("{:.2}", row.p99),
                format!("{:.2}", row.ratio_per_cpu_second),
                format!("{:.2} to {:.2}", row.least_ratio, row.greatest_ratio),
                row.aim.map(|aim| format!("≥ {aim}")).unwrap_or_default(),
                format!("{:.2}", row.ratio_requests_per_second),
                format!("{:.2}", row.ratio_p99),
            ]);
        }
        println!("{table}");
        if self.memory.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.set_header([
            "proxy",
            "idle MiB",
            "KiB per idle connection",
            "1,000 active, MiB",
            "1 GiB body, more MiB",
            "cache full, more MiB",
        ]);
        for figure in &self.memory {
            table.add_row([
                figure.kind.to_string(),
                format!("{:.1}", figure.idle_mib),
                format!("{:.1}", figure.connection_kib),
                format!("{:.1}", figure.active_mib),
                format!("{:.1}", figure.body_mib),
                format!("{:.1}", figure.cache_mib),
            ]);
        }
        println!("{table}");
    }

    /// Writes everything as JSON.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        Ok(fs::write(file, serde_json::to_vec_pretty(self)?)?)
    }
}
