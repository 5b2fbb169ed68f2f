//! Plays all traces under all laws, and reports as Markdown tables.

use std::{
    fmt::Write as _,
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{
    brokers,
    laws::Law,
    play::{Outcome, play, play_with},
    pool::Knowledge,
    trace::Trace,
};

/// Start-up times, seconds.
pub const START_UPS: [f64; 3] = [3.0, 20.0, 60.0];
/// Aim: the law may lose this multiple of what HPA loses in any trace, ...
const MOST_WORSE: f64 = 1.10;
/// ... less than this many points of all flows do not count.
const NEGLIGIBLE: f64 = 0.05;
/// Aim: lost flows on the step, in percent, by start-up time.
const STEP: [(f64, f64); 2] = [(20.0, 1.0), (3.0, 0.3)];
/// Aim: instances started per hour on the square.
const STARTS: f64 = 12.0;
/// Numbers of warm instances.
const SPARES: [u32; 4] = [0, 2, 4, 8];
/// Connections a second that may be shed.
const SHED_RATES: [f64; 4] = [0.0, 50.0, 200.0, 1_000.0];

/// A trace, a start-up time and what is known of the instances.
#[derive(Clone, Debug)]
pub struct Case {
    /// The trace.
    pub trace: Trace,
    /// Seconds from an order until the instance serves.
    pub start_up: f64,
    /// How instances differ, and who knows it.
    pub knowledge: Knowledge,
}

/// Plays cases under laws on all processors. Returns the means over the seeds, in the order of the cases, then the laws.
pub fn played(cases: &[Case], laws: &[Law], first_seed: u64, seeds: u64) -> Vec<Vec<Outcome>> {
    let all = cases.len() * laws.len() * seeds as usize;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Outcome)> = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= all {
                return done;
            }
            let (cell, seed) = (job / seeds as usize, (job % seeds as usize) as u64);
            let case = &cases[cell / laws.len()];
            let law = laws[cell % laws.len()];
            let outcome = play(
                &case.trace,
                law,
                case.start_up,
                case.knowledge,
                first_seed + seed,
            );
            done.push((job, outcome.without_seconds()));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut done: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    done.sort_unstable_by_key(|(job, _)| *job);
    let outcomes: Vec<Outcome> = done.into_iter().map(|(_, outcome)| outcome).collect();
    let means: Vec<Outcome> = outcomes.chunks(seeds as usize).map(Outcome::mean).collect();
    means.chunks(laws.len()).map(<[Outcome]>::to_vec).collect()
}

fn title(knowledge: Knowledge) -> &'static str {
    match knowledge {
        Knowledge::Known => "Equal instances, capacities known",
        Knowledge::Learned => "Equal instances, capacities learned",
        Knowledge::Unequal => "Unequal instances (50 to 150 flows/s), capacities learned",
    }
}

/// Whether the law loses more than it may, beside HPA.
fn is_worse(ours: &Outcome, hpa: &Outcome) -> bool {
    let (ours, hpa) = (ours.lost_percent(), hpa.lost_percent());
    ours > hpa * MOST_WORSE && ours - hpa > NEGLIGIBLE
}

fn mark(reached: bool) -> &'static str {
    if reached { "reached" } else { "**missed**" }
}

/// Compares the laws on all traces.
pub fn compared(first_seed: u64, seeds: u64) -> String {
    let mut text = format!(
        "### Laws compared\n\nLost flows in % / instances over the ideal number / instances started; means of {seeds} \
         seeds. The ideal number is exactly what demand needs at each second.\n"
    );
    let mut aims = String::new();
    let mut worst: Option<(f64, String)> = None;
    let mut worse: Vec<String> = Vec::new();
    for knowledge in [Knowledge::Known, Knowledge::Learned, Knowledge::Unequal] {
        for start_up in START_UPS {
            let cases: Vec<Case> = Trace::all()
                .into_iter()
                .map(|trace| Case {
                    trace,
                    start_up,
                    knowledge,
                })
                .collect();
            let rows = played(&cases, &Law::ALL, first_seed, seeds);
            let _ = write!(
                text,
                "\n#### {}, start-up {start_up} s\n\n| trace |",
                title(knowledge)
            );
            for law in Law::ALL {
                let _ = write!(text, " {} |", law.name());
            }
            let _ = writeln!(text, "\n|---|{}", "---|".repeat(Law::ALL.len()));
            for (case, row) in cases.iter().zip(&rows) {
                let _ = write!(text, "| {} |", case.trace.name);
                for outcome in row {
                    let _ = write!(
                        text,
                        " {:.2} / {:.2} / {:.0} |",
                        outcome.lost_percent(),
                        outcome.over_ideal(),
                        outcome.starts
                    );
                }
                text.push('\n');
                let (ours, hpa) = (&row[0], &row[2]);
                let ratio = ours.lost_percent() / hpa.lost_percent().max(NEGLIGIBLE);
                let name = format!(
                    "{}, {start_up} s, {}",
                    case.trace.name,
                    title(knowledge).to_lowercase()
                );
                if is_worse(ours, hpa) {
                    worse.push(format!(
                        "{name}: {:.2} % against {:.2} %",
                        ours.lost_percent(),
                        hpa.lost_percent()
                    ));
                }
                if worst.as_ref().is_none_or(|(before, _)| ratio > *before) {
                    worst = Some((ratio, name));
                }
                let hours = case.trace.length / 3_600.0;
                if case.trace.name.starts_with("step")
                    && let Some((_, aim)) = STEP.iter().find(|(time, _)| *time == start_up)
                {
                    let _ = writeln!(
                        aims,
                        "| step × 3.6, start-up {start_up} s, {}: lost | ≤ {aim} % | {:.2} % | {} |",
                        title(knowledge).to_lowercase(),
                        ours.lost_percent(),
                        mark(ours.lost_percent() <= *aim)
                    );
                }
                if case.trace.name.starts_with("square") {
                    let starts = ours.starts / hours;
                    let _ = writeln!(
                        aims,
                        "| square, start-up {start_up} s, {}: starts an hour | ≤ {STARTS} | {starts:.1} | {} |",
                        title(knowledge).to_lowercase(),
                        mark(starts <= STARTS)
                    );
                }
            }
        }
    }
    for knowledge in [Knowledge::Known, Knowledge::Learned] {
        let case = Case {
            trace: Trace::calm(),
            start_up: 20.0,
            knowledge,
        };
        let calm = &played(&[case], &[Law::Ours], first_seed, seeds)[0][0];
        let _ = writeln!(
            aims,
            "| flat at a boundary, 10 % noise, 10 h, {}: actions | 0 | {:.1} | {} |",
            title(knowledge).to_lowercase(),
            calm.actions,
            mark(calm.actions == 0.0)
        );
    }
    let (ratio, name) = worst.unwrap_or_default();
    let _ = writeln!(
        aims,
        "| lost in any trace, over what HPA loses | ≤ {MOST_WORSE} | {ratio:.2} ({name}) | {} |",
        mark(worse.is_empty())
    );
    for case in worse {
        let _ = writeln!(aims, "| worse than HPA | | {case} | |");
    }
    format!("### Aims\n\n| | aim | found | |\n|---|---|---|---|\n{aims}\n{text}")
}

/// Shows what warm instances are worth.
pub fn warm(first_seed: u64, seeds: u64) -> String {
    let mut text = format!(
        "### Warm instances\n\nLost flows in % / instances, warm ones included, over the ideal number; equal instances, \
         capacities learned, start-up 20 s; means of {seeds} seeds.\n\n| trace |"
    );
    for spare in SPARES {
        let _ = write!(text, " spare = {spare} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(SPARES.len()));
    for name in ["step", "spike", "square"] {
        let trace = Trace::of(name);
        let _ = write!(text, "| {} |", trace.name);
        for spare in SPARES {
            let outcomes: Vec<Outcome> = (first_seed..first_seed + seeds)
                .map(|seed| {
                    play_with(&trace, Law::Ours, 20.0, Knowledge::Learned, seed, spare)
                        .without_seconds()
                })
                .collect();
            let mean = Outcome::mean(&outcomes);
            let _ = write!(
                text,
                " {:.2} / {:.2} |",
                mean.lost_percent(),
                mean.over_ideal()
            );
        }
        text.push('\n');
    }
    text
}

/// Reports the brokers.
pub fn long_lived(first_seed: u64) -> String {
    let mut text = "### Connections that live for hours\n\nFour brokers with 100,000 connections that live for 2 h on average. \
                    The number grows to 150,000 within 10 min; from 2 h on no client comes until 60,000 are left. A broker \
                    carries 36,000 at utilisation 1, steering learns that, start-up 20 s.\n\n\
                    | connections shed a second | most brokers, last | balanced after, s | highest utilisation | shed, of 150,000 | \
                    cut off by a stop | time to shrink, s |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for shed_rate in SHED_RATES {
        let outcome = brokers::play(shed_rate, first_seed);
        let balanced = if outcome.balanced.is_finite() {
            format!("{:.0}", outcome.balanced)
        } else {
            "not before it shrinks".to_owned()
        };
        let _ = writeln!(
            text,
            "| {shed_rate} | {}, {} | {balanced} | {:.2} | {:.0} % | {:.0} | {:.0} |",
            outcome.most,
            outcome.last,
            outcome.highest,
            outcome.shed * 100.0,
            outcome.cut,
            outcome.shrinking
        );
    }
    text
}
