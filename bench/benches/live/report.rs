//! The results of all rounds.

use std::{fs, path::Path};

use anyhow::Context as _;
use comfy_table::Table;
use lb_bench::{
    figures::{Figures, median, quantile},
    machine,
};
use serde::Serialize;

use crate::policy::WeightPolicy;

/// The controller's period in seconds; its default.
const PERIOD: f64 = 5.0;

/// All plays.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Release of the running kernel.
    kernel: String,
    /// Name of the processor.
    processor: String,
    plays: Vec<Play>,
}

#[derive(Debug, Serialize)]
struct Play {
    #[serde(rename = "arm")]
    policy: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

impl Report {
    /// Creates an empty report about this machine.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Report {
            kernel: machine::kernel()?,
            processor: machine::processor()?,
            plays: Vec::new(),
        })
    }

    /// Adds a play and prints it.
    pub fn add(&mut self, policy: WeightPolicy, figures: Figures) {
        println!("{}", line(&figures));
        self.plays.push(Play {
            policy: policy.name(),
            figures,
        });
    }

    /// Prints the result of all rounds, and compares it with the oracle's. Times are quantiles of the requests of all
    /// rounds: in a single round few requests are above the 99th percentile, and they come in bursts.
    pub fn print(&self) {
        let took = |policy: WeightPolicy, part: f64| {
            let plays = self
                .plays
                .iter()
                .filter(|play| play.policy == policy.name());
            let all: Vec<f64> = plays
                .flat_map(|play| play.figures.times.iter().copied())
                .collect();
            quantile(&all, part)
        };
        let of = |policy: WeightPolicy, value: fn(&Figures) -> f64| {
            let values: Vec<f64> = self
                .plays
                .iter()
                .filter(|play| play.policy == policy.name())
                .map(|play| value(&play.figures))
                .collect();
            median(&values)
        };
        let mut table = Table::new();
        table.set_header([
            "weights",
            "p50, ms",
            "p99, ms",
            "p99 to the oracle's",
            "greatest over mean utilisation",
            "failed",
            "settled after, periods",
            "ring moved per period",
        ]);
        for policy in WeightPolicy::ALL {
            let p99 = took(policy, 0.99);
            let settled = of(policy, |figures| figures.settle.unwrap_or(f64::INFINITY));
            table.add_row([
                policy.name().to_owned(),
                format!("{:.1}", took(policy, 0.5)),
                format!("{p99:.0}"),
                format!("{:.2}", p99 / took(WeightPolicy::Oracle, 0.99)),
                format!("{:.3}", of(policy, |figures| figures.uneven)),
                format!(
                    "{:.2} %",
                    of(policy, |figures| part_failed(figures) * 100.0)
                ),
                if policy == WeightPolicy::Capacity && settled.is_finite() {
                    format!("{:.0}", (settled / PERIOD).ceil())
                } else if settled.is_finite() {
                    "at once".to_owned()
                } else {
                    "never".to_owned()
                },
                format!(
                    "{:.3} %",
                    of(policy, |figures| figures.moved * PERIOD * 100.0)
                ),
            ]);
        }
        println!(
            "\nLinux {}, {}; times are over the requests of all rounds, other figures are medians of rounds\n{table}",
            self.kernel, self.processor
        );
    }

    /// Writes the report to a file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n")
            .with_context(|| format!("writing the results to {}", file.display()))
    }
}

fn part_failed(figures: &Figures) -> f64 {
    figures.failed as f64 / figures.requests.max(1) as f64
}

fn line(figures: &Figures) -> String {
    let list = |values: &[f64], digits: usize| {
        let all: Vec<String> = values.iter().map(|v| format!("{v:.digits$}")).collect();
        all.join(" ")
    };
    format!(
        "{} requests, {} failed, p50 {:.1} ms, p99 {:.1} ms, utilisation {} (greatest over mean {:.3}), shares {}, \
         settled after {}",
        figures.requests,
        figures.failed,
        figures.p50,
        figures.p99,
        list(&figures.utilisation, 3),
        figures.uneven,
        list(&figures.shares, 4),
        figures
            .settle
            .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s")),
    )
}
