//! Several programs, measured side by side.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aya::programs::ProgramInfo;
use lb_bench::{
    statistics::{median, quantile},
    walk::{PERIOD, Walk},
};
use lb_common::tables::bench::{IN_TURN, MAX_SEQUENCE, MAX_TARGETS};
use lb_dataplane::{Dataplane as _, KernelDataplane};
use lb_model::intent::spec::DEFAULT_TCP_WINDOW;

use super::{
    OURS, Options, OtherProgram, PacketFigure, check, driver::Driver, job, scenario::Scenario,
};
use crate::balancer::{Balancer, Mode, REALS, STEERED_WINDOW};

/// New flows per second up to which other balancers remember each of them.
const PACE: u32 = 100_000;
/// Interval between runs with that many new flows.
const PACE_TIME: Duration = Duration::from_millis(1_050);
/// A sample is quiet if the cost of the method around it is at most this multiple of its 10th percentile.
const QUIET: f64 = 1.15;
/// Least number of quiet samples that figures are computed from.
const FEWEST: usize = 5;
/// Rounds per test run. Short runs let Ctrl-C end the benchmark.
const ROUNDS_OF_RUN: u32 = 16;
/// How long steering takes from one step to the next, at this many in a window as in the window of TCP.
const STEERED_STEP: Duration = Duration::from_millis(
    STEERED_WINDOW.as_millis() as u64 * PERIOD / DEFAULT_TCP_WINDOW.as_secs(),
);
/// The interval of the data plane's ticks meanwhile.
const STEERED_TICK: Duration = Duration::from_millis(250);
/// How long each flow pauses between two packets: well within the window.
const STEERED_PAUSE: Duration = Duration::from_secs(10);
/// Flows that our flow table has room for.
const FLOW_ENTRIES: u32 = 1 << 21;

const _: () = assert!(2 * (MAX_TARGETS - 1) <= MAX_SEQUENCE);

/// Programs that are measured side by side by one driver.
pub(super) struct Comparison {
    driver: Driver,
    balancer: Balancer,
    /// Names of the targets from 1 on.
    names: Vec<String>,
    /// Number of the next flow that no program has seen.
    fresh: u64,
    last_pace: Option<Instant>,
}

impl Comparison {
    /// Loads the driver, our balancer and the other programs.
    pub(super) fn new(against: &[OtherProgram]) -> anyhow::Result<Self> {
        let mut comparison = Self {
            driver: Driver::load()?,
            balancer: Balancer::start(FLOW_ENTRIES)?,
            names: vec![OURS.to_owned()],
            fresh: 1,
            last_pace: None,
        };
        comparison
            .driver
            .add(OURS, &comparison.balancer.program()?)?;
        for other in against {
            let program = ProgramInfo::from_pin(&other.pin).with_context(|| {
                format!("opening the program pinned at {}", other.pin.display())
            })?;
            comparison.driver.add(&other.name, &program.fd()?)?;
            comparison.names.push(other.name.clone());
        }
        Ok(comparison)
    }

    /// Plays one scenario on all programs.
    pub(super) fn play(
        &mut self,
        scenario: &Scenario,
        options: &Options,
    ) -> anyhow::Result<Vec<PacketFigure>> {
        self.balancer.set_mode(scenario.mode)?;
        // Tables that have grown have a new program.
        self.driver.replace(1, OURS, &self.balancer.program()?)?;
        self.prime(scenario)?;
        if scenario.mode == Mode::Steered {
            self.steer(scenario)?;
        }
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
            // A sample is compared with the baselines of its own run.
            times.push(of_run);
            played += rounds;
        }
        let packets = f64::from(options.rounds) * f64::from(segment);
        let grown: Vec<f64> = grown.iter().map(|total| *total as f64 / packets).collect();
        Ok(self.figures(scenario, &times, &actions, &grown))
    }

    /// Sends every flow once to each target, slowly enough for those that limit the rate of new flows.
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

    /// Moves the weights of our balancer for two windows, while each flow sends packets.
    fn steer(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        let mut walk = Walk::new(usize::from(REALS));
        let begin = Instant::now();
        let (mut sent, mut ticked) = (begin, begin);
        while begin.elapsed() < 2 * STEERED_WINDOW {
            let step = Instant::now();
            walk.step();
            self.balancer.set_weights(&walk.weights())?;
            if ticked.elapsed() >= STEERED_TICK {
                ticked = Instant::now();
                self.balancer.enter(KernelDataplane::tick)??;
            }
            if sent.elapsed() >= STEERED_PAUSE {
                sent = Instant::now();
                let mut job = job(scenario, &[1], scenario.flows, 0);
                job.order = IN_TURN;
                self.driver.play(&job, 1)?;
            }
            thread::sleep(STEERED_STEP.saturating_sub(step.elapsed()));
        }
        let status = self.balancer.status();
        let before = self.lookups()?;
        let mut job = job(scenario, &[1], scenario.flows, 0);
        job.order = IN_TURN;
        self.driver.play(&job, 1)?;
        let after = self.lookups()?;
        eprintln!(
            "    slots: {} settled, {} in their window, {} with exceptions; {:.2} % of the flows consult the flow table",
            status.slots.settled,
            status.slots.in_window,
            status.slots.exceptions,
            (after - before) as f64 / f64::from(scenario.flows) * 100.0
        );
        Ok(())
    }

    /// Packets that consulted our flow table.
    fn lookups(&self) -> anyhow::Result<u64> {
        let services = self.balancer.stats()?.services;
        Ok(services
            .iter()
            .map(|service| service.table_hits + service.table_misses)
            .sum())
    }

    /// Waits until the other programs' limits on new flows have been reset.
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
