//! What came of all rounds.

use std::{fs, path::Path};

use anyhow::Context as _;
use comfy_table::Table;
use serde::Serialize;

use crate::{
    arm::Arm,
    figures::{Figures, median, quantile},
};

/// A period of the controller, seconds: its default.
const PERIOD: f64 = 5.0;

/// All plays.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Release of the kernel.
    kernel: String,
    /// Name of the processor.
    processor: String,
    plays: Vec<Play>,
}

#[derive(Debug, Serialize)]
struct Play {
    arm: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

impl Report {
    /// An empty one, about this machine.
    pub fn new() -> anyhow::Result<Self> {
        let file = "/proc/sys/kernel/osrelease";
        let kernel = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let file = "/proc/cpuinfo";
        let processors = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let processor = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        Ok(Report {
            kernel: kernel.trim().to_owned(),
            processor: processor.to_owned(),
            plays: Vec::new(),
        })
    }

    /// Adds a play, and shows it.
    pub fn add(&mut self, arm: Arm, figures: Figures) {
        println!("{}", line(&figures));
        self.plays.push(Play {
            arm: arm.name(),
            figures,
        });
    }

    /// Prints what all rounds come to, and how that stands to the oracle's. Times are quantiles of the requests of
    /// all rounds: in a single round few are above the 99th, and they come in bursts.
    pub fn print(&self) {
        let took = |arm: Arm, part: f64| {
            let of_arm = self.plays.iter().filter(|play| play.arm == arm.name());
            let all: Vec<f64> = of_arm
                .flat_map(|play| play.figures.times.iter().copied())
                .collect();
            quantile(&all, part)
        };
        let of = |arm: Arm, value: fn(&Figures) -> f64| {
            let values: Vec<f64> = self
                .plays
                .iter()
                .filter(|play| play.arm == arm.name())
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
        for arm in Arm::ALL {
            let p99 = took(arm, 0.99);
            let settled = of(arm, |figures| figures.settle.unwrap_or(f64::INFINITY));
            table.add_row([
                arm.name().to_owned(),
                format!("{:.1}", took(arm, 0.5)),
                format!("{p99:.0}"),
                format!("{:.2}", p99 / took(Arm::Oracle, 0.99)),
                format!("{:.3}", of(arm, |figures| figures.uneven)),
                format!("{:.2} %", of(arm, |figures| part_failed(figures) * 100.0)),
                if arm == Arm::Capacity && settled.is_finite() {
                    format!("{:.0}", (settled / PERIOD).ceil())
                } else if settled.is_finite() {
                    "at once".to_owned()
                } else {
                    "never".to_owned()
                },
                format!("{:.3} %", of(arm, |figures| figures.moved * PERIOD * 100.0)),
            ]);
        }
        println!(
            "\nLinux {}, {}; times are of all rounds' requests, the rest are medians of rounds\n{table}",
            self.kernel, self.processor
        );
    }

    /// Writes it to a file.
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
