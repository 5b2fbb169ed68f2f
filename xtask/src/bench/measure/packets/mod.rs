//! Nanoseconds per packet in the kernel, net of what the method costs.

mod driver;
mod generator;
mod scenario;
pub mod template;

use std::{
    path::PathBuf,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use aya::programs::ProgramInfo;
use comfy_table::Table;
use lb_common::tables::bench::{IN_TURN, Job, MAX_SEQUENCE, MAX_TARGETS};
use serde::Serialize;

pub use self::generator::Generator;
use self::{
    driver::Driver,
    scenario::{ESTABLISHED, SCENARIOS, Scenario},
};
use crate::{
    balancer::Balancer,
    statistics::{median, quantile},
};

/// How packets are measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Packets: only scenarios whose name contains this; may be given several times.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,

    /// Packets: another XDP program to hold beside ours, pinned at PIN.
    #[arg(long, value_name = "PIN=NAME")]
    against: Vec<Rival>,

    /// Packets: rounds of each scenario.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    rounds: u32,

    /// Packets: packets of each program and round.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    segment: u32,
}

/// Another program.
#[derive(Clone, Debug)]
struct Rival {
    pin: PathBuf,
    name: String,
}

impl FromStr for Rival {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pin, name) = text
            .rsplit_once('=')
            .ok_or("write PIN=NAME, for example /sys/fs/bpf/other=other")?;
        Ok(Rival {
            pin: pin.into(),
            name: name.to_owned(),
        })
    }
}

/// What one program took in one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct PacketFigure {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Name of the program.
    pub program: String,
    /// Median, nanoseconds per packet, net.
    pub net_ns: f64,
    /// A tenth of the samples took less.
    pub p10_ns: f64,
    /// A tenth of the samples took more.
    pub p90_ns: f64,
    /// What the method itself took in this scenario, nanoseconds per packet; median.
    pub method_ns: f64,
    /// Samples in a quiet moment, on which the figures stand; 0: there were too few, so all were used.
    pub quiet: usize,
    /// `net_ns` of our program over this one's.
    pub ours_to_this: f64,
    /// XDP action of the first packet.
    pub action: u32,
    /// Bytes by which packets grew, on average.
    pub grown: f64,
}

/// Flows a second below which other balancers still remember each of them.
const PACE: u32 = 100_000;
/// How long a run of that many has to itself.
const PACE_TIME: Duration = Duration::from_millis(1_050);
/// A sample is quiet if the method took no more around it than this over its 10th percentile.
const QUIET: f64 = 1.15;
/// Fewer quiet samples than this say nothing.
const FEWEST: usize = 5;
/// Rounds of one test run: it is short enough to be interrupted by Ctrl-C.
const ROUNDS_OF_RUN: u32 = 16;
/// Flows our flow table has room for.
const FLOW_ENTRIES: u32 = 1 << 21;
/// Name of our program.
const OURS: &str = "balancer";

const _: () = assert!(2 * (MAX_TARGETS - 1) <= MAX_SEQUENCE);

/// Programs side by side, on one driver.
struct Contest {
    driver: Driver,
    balancer: Balancer,
    /// Names by target number less one.
    names: Vec<String>,
    /// Number of the next flow that nobody has seen.
    fresh: u64,
    last_pace: Option<Instant>,
}

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
    let mut contest = Contest {
        driver: Driver::load()?,
        balancer: Balancer::start(FLOW_ENTRIES)?,
        names: vec![OURS.to_owned()],
        fresh: 1,
        last_pace: None,
    };
    contest.driver.add(OURS, &contest.balancer.program()?)?;
    for rival in &options.against {
        let program = ProgramInfo::from_pin(&rival.pin)
            .with_context(|| format!("opening the program pinned at {}", rival.pin.display()))?;
        contest.driver.add(&rival.name, &program.fd()?)?;
        contest.names.push(rival.name.clone());
    }
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
        let new = contest
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

impl Contest {
    fn play(
        &mut self,
        scenario: &Scenario,
        options: &Options,
    ) -> anyhow::Result<Vec<PacketFigure>> {
        self.balancer.set_mode(scenario.mode)?;
        // Tables that have grown have a new program.
        self.driver.replace(1, OURS, &self.balancer.program()?)?;
        self.prime(scenario)?;
        let targets = self.names.len() as u32;
        let mut actions = Vec::new();
        for target in 1..=targets {
            let mut job = job(scenario, &[target], 1, 0);
            job.first_flow = self.fresh;
            let output = self.driver.once(&job)?;
            if target == 1 {
                check(scenario, &output)?;
            }
            actions.push(output.action);
        }
        // Each sample of a program lies between two of the one that does nothing.
        let sequence: Vec<u32> = (1..=targets).flat_map(|target| [0, target]).collect();
        let segment = if scenario.paced {
            options.segment.min(PACE)
        } else {
            options.segment
        };
        let rounds_of_run = if scenario.paced {
            (PACE / segment).clamp(1, ROUNDS_OF_RUN)
        } else {
            ROUNDS_OF_RUN
        };
        let mut times = Vec::new();
        let mut grown = vec![0; self.names.len()];
        let mut played = 0;
        // The first run only warms up.
        let mut warm = false;
        while played < options.rounds {
            let rounds = rounds_of_run.min(options.rounds - played);
            if scenario.paced {
                self.wait();
            }
            let mut job = job(scenario, &sequence, segment, segment / 10);
            let packets = u64::from(rounds) * u64::from(segment);
            job.first_flow = if scenario.new_flows {
                self.fresh
            } else {
                u64::from(played) * u64::from(segment)
            };
            self.fresh += packets + 1;
            let (of_run, state) = self.driver.play(&job, rounds)?;
            if !warm {
                warm = true;
                continue;
            }
            for (total, target) in grown.iter_mut().zip(1..) {
                *total += state.grown[target];
            }
            // Runs do not touch: a sample is compared with the baselines of its own run.
            times.push(of_run);
            played += rounds;
        }
        let packets = f64::from(options.rounds) * f64::from(segment);
        let grown: Vec<f64> = grown.iter().map(|total| *total as f64 / packets).collect();
        Ok(self.figures(scenario, &times, &actions, &grown))
    }

    /// Shows the targets every flow once, slowly enough for those that limit how many they remember.
    fn prime(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        if scenario.new_flows || !scenario.vip {
            return Ok(());
        }
        let mut first = 0;
        while first < scenario.flows {
            let count = (scenario.flows - first).min(PACE);
            if count > 1 && self.names.len() > 1 {
                self.wait();
            }
            for target in 1..=self.names.len() as u32 {
                let mut job = job(scenario, &[target], count, 0);
                job.order = IN_TURN;
                job.first_flow = u64::from(first);
                self.driver.play(&job, 1)?;
            }
            first += count;
        }
        Ok(())
    }

    /// Waits until others have forgotten how many new flows there have been.
    fn wait(&mut self) {
        if self.names.len() == 1 {
            return;
        }
        if let Some(last) = self.last_pace {
            thread::sleep(PACE_TIME.saturating_sub(last.elapsed()));
        }
        self.last_pace = Some(Instant::now());
    }

    fn figures(
        &self,
        scenario: &Scenario,
        runs: &[Vec<f64>],
        actions: &[u32],
        grown: &[f64],
    ) -> Vec<PacketFigure> {
        let methods: Vec<f64> = runs
            .iter()
            .flat_map(|run| run.iter().copied().step_by(2))
            .collect();
        let calm = quantile(&methods, 0.1) * QUIET;
        let mut figures = Vec::new();
        for (target, name) in self.names.iter().enumerate() {
            let mut all = Vec::new();
            let mut quiet = Vec::new();
            for run in runs {
                for at in (2 * target + 1..run.len()).step_by(2 * self.names.len()) {
                    let before = run[at - 1];
                    let after = run.get(at + 1).copied().unwrap_or(before);
                    let net = run[at] - (before + after) / 2.0;
                    all.push(net);
                    if before <= calm && after <= calm {
                        quiet.push(net);
                    }
                }
            }
            let enough = quiet.len() >= FEWEST;
            let samples = if enough { &quiet } else { &all };
            figures.push(PacketFigure {
                scenario: scenario.name,
                program: name.clone(),
                net_ns: median(samples),
                p10_ns: quantile(samples, 0.1),
                p90_ns: quantile(samples, 0.9),
                method_ns: median(&methods),
                quiet: if enough { quiet.len() } else { 0 },
                ours_to_this: 1.0,
                action: actions[target],
                grown: grown[target],
            });
        }
        let ours = figures[0].net_ns;
        for figure in &mut figures {
            figure.ours_to_this = ours / figure.net_ns;
        }
        figures
    }
}

/// What plays a scenario.
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

/// A job of packets of established IPv4 flows, a power of two.
pub fn scenario_job(flows: u32) -> Job {
    let scenario = Scenario {
        flows,
        ..ESTABLISHED
    };
    job(&scenario, &[0], 1, 0)
}

/// Shows a balancer the first packet that is not a SYN of so many IPv4 flows.
pub fn show_flows(balancer: &mut Balancer, flows: u32) -> anyhow::Result<()> {
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

/// Our program must have done what the scenario is about.
fn check(scenario: &Scenario, output: &driver::Output) -> anyhow::Result<()> {
    let frame = &output.frame;
    let before = scenario.packet().bytes().len();
    let (wanted, grown) = match (scenario.vip, scenario.v6) {
        (false, _) => ("pass", 0),
        (true, false) => ("tx", 20),
        (true, true) => ("tx", 40),
    };
    ensure!(
        action(output.action) == wanted && frame.len() == before + grown,
        "the balancer answered {} with {} bytes, not {wanted} with {}",
        action(output.action),
        frame.len(),
        before + grown
    );
    if grown == 20 {
        ensure!(
            template::sum(&frame[14..34], 0) == 0xFFFF
                && template::sum(&frame[34..54], 0) == 0xFFFF,
            "the checksum of the outer or the inner IPv4 header is wrong"
        );
    }
    Ok(())
}

fn action(number: u32) -> &'static str {
    ["aborted", "drop", "pass", "tx", "redirect"]
        .get(number as usize)
        .copied()
        .unwrap_or("unknown")
}
