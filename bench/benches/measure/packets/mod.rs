//! Nanoseconds per packet in the kernel, net of the cost of the method.

mod comparison;
mod driver;
mod generator;
mod scenario;
pub mod template;

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use comfy_table::Table;
use lb_common::tables::bench::{IN_TURN, Job, MAX_SEQUENCE};
use serde::Serialize;

pub use self::generator::Generator;
use self::{
    comparison::Comparison,
    driver::Driver,
    scenario::{ESTABLISHED, SCENARIOS, Scenario},
};
use crate::balancer::{Balancer, Mode, Setting};

/// How packets are measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Packets: only scenarios whose name contains this; may be repeated.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,

    /// Packets: another XDP program to compare with, pinned at PIN.
    #[arg(long, value_name = "PIN=NAME")]
    against: Vec<OtherProgram>,

    /// Packets: rounds of each scenario.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    rounds: u32,

    /// Packets: packets per program and round.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    segment: u32,
}

/// Another XDP program to compare with.
#[derive(Clone, Debug)]
struct OtherProgram {
    pin: PathBuf,
    name: String,
}

impl FromStr for OtherProgram {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pin, name) = text
            .rsplit_once('=')
            .ok_or("write PIN=NAME, for example /sys/fs/bpf/other=other")?;
        Ok(OtherProgram {
            pin: pin.into(),
            name: name.to_owned(),
        })
    }
}

/// The cost of one program in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct PacketFigure {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Name of the program.
    pub program: String,
    /// Median, nanoseconds per packet, net.
    pub net_ns: f64,
    /// 10th percentile, in nanoseconds per packet.
    pub p10_ns: f64,
    /// 90th percentile, in nanoseconds per packet.
    pub p90_ns: f64,
    /// Median cost of the method itself in this scenario, in nanoseconds per packet.
    pub method_ns: f64,
    /// Number of quiet samples that the figures are computed from; 0 if there were too few and all were used.
    pub quiet: usize,
    /// `net_ns` of our program over this one's.
    pub ours_to_this: f64,
    /// XDP action of the first packet.
    pub action: u32,
    /// Bytes by which packets grew, on average.
    pub grown: f64,
}

/// Name of our program.
const OURS: &str = "balancer";

/// Measures and prints.
pub fn measure(options: &Options) -> anyhow::Result<Vec<PacketFigure>> {
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| {
            options.scenarios.is_empty()
                || options
                    .scenarios
                    .iter()
                    .any(|part| scenario.name.contains(part))
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        bail!("no scenario is chosen; there are {}", names.join(", "));
    }
    let mut comparison = Comparison::new(&options.against)?;
    println!(
        "\nNanoseconds per packet, net of the method: median (p10 to p90) of {} rounds of {} packets",
        options.rounds, options.segment
    );
    let mut figures = Vec::new();
    let mut table = Table::new();
    table.set_header([
        "scenario",
        "program",
        "net ns",
        "p10",
        "p90",
        "method",
        "quiet",
        "ours/this",
        "action",
        "grown",
    ]);
    for scenario in chosen {
        eprintln!("{}: {}", scenario.name, scenario.what);
        let new = comparison
            .play(scenario, options)
            .with_context(|| format!("scenario {}", scenario.name))?;
        for figure in &new {
            table.add_row([
                figure.scenario.to_owned(),
                figure.program.clone(),
                format!("{:.1}", figure.net_ns),
                format!("{:.1}", figure.p10_ns),
                format!("{:.1}", figure.p90_ns),
                format!("{:.1}", figure.method_ns),
                figure.quiet.to_string(),
                format!("{:.3}", figure.ours_to_this),
                action(figure.action).to_owned(),
                format!("{:.1}", figure.grown),
            ]);
            eprintln!("    {:12} {:7.1} ns", figure.program, figure.net_ns);
        }
        figures.extend(new);
    }
    println!("{table}");
    Ok(figures)
}

/// Returns the job that plays a scenario.
fn job(scenario: &Scenario, targets: &[u32], segment: u32, untimed: u32) -> Job {
    let packet = scenario.packet();
    let mut sequence = [0; MAX_SEQUENCE];
    sequence[..targets.len()].copy_from_slice(targets);
    Job {
        template: packet.words(),
        length: packet.bytes().len() as u32,
        v6: u32::from(scenario.v6),
        order: scenario.order(),
        mask: scenario.flows - 1,
        first_flow: 0,
        segment,
        untimed,
        sequence,
        rounds_of: targets.len() as u32,
        pad: 0,
    }
}

/// Returns a job of packets of established IPv4 flows; `flows` is a power of two.
pub fn scenario_job(flows: u32) -> Job {
    let scenario = Scenario {
        flows,
        ..ESTABLISHED
    };
    job(&scenario, &[0], 1, 0)
}

/// Sends one packet other than a SYN of each of this many IPv4 flows to a balancer.
pub fn send_flows(balancer: &mut Balancer, flows: u32) -> anyhow::Result<()> {
    let mut driver = Driver::load()?;
    let target = driver.add(OURS, &balancer.program()?)?;
    let scenario = Scenario {
        flows,
        ..ESTABLISHED
    };
    let mut job = job(&scenario, &[target], flows, 0);
    job.order = IN_TURN;
    driver.play(&job, 1)?;
    Ok(())
}

/// Checks that our program did what the scenario is about.
fn check(scenario: &Scenario, output: &driver::Output) -> anyhow::Result<()> {
    let frame = &output.frame;
    let before = scenario.packet().bytes().len();
    let (expected, grown) = match (scenario.vip, scenario.v6, scenario.mode) {
        (false, ..) => ("pass", 0),
        (true, _, Mode::With(Setting::L2)) => ("tx", 0),
        (true, _, Mode::With(Setting::Gue)) => ("tx", 28),
        (true, false, _) => ("tx", 20),
        (true, true, _) => ("tx", 40),
    };
    ensure!(
        action(output.action) == expected && frame.len() == before + grown,
        "the balancer answered {} with {} bytes, not {expected} with {}",
        action(output.action),
        frame.len(),
        before + grown
    );
    if grown == 20 {
        template::check_tunnel_v4(frame)?;
    }
    Ok(())
}

fn action(number: u32) -> &'static str {
    ["aborted", "drop", "pass", "tx", "redirect"]
        .get(number as usize)
        .copied()
        .unwrap_or("unknown")
}
