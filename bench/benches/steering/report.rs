//! Tables, as Markdown, which the terminal shows as well as a page does.

use std::{
    fmt::Write as _,
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use lb_agent::steering::spec::Steering;

use crate::{
    figures::Figures,
    policy::Policy,
    probe, queue,
    scenario::{self, Case, Event},
    world::{Grain, play},
};

/// Lives of connections, seconds.
pub const LIVES: [f64; 4] = [0.0, 60.0, 600.0, 3_600.0];
/// Periods in which a pool with short connections is to settle, and the least that is asked of long ones.
const SHORT: f64 = 12.0;
/// Flows a second that may be reset; the plain case has 292,500 connections.
const SHED_RATES: [f64; 4] = [0.0, 100.0, 300.0, 1_000.0];
/// The multiple of the bound in which one with long connections is to settle.
const LONG: f64 = 1.3;

fn runs(case: &Case, policy: Policy, spec: &Steering, seeds: u64, grain: Grain) -> Vec<Figures> {
    (0..seeds)
        .map(|seed| Figures::of(case, &play(case, policy, spec, seed, grain)))
        .collect()
}

/// Means of all cases of the grid, on all processors; in the order of the cases.
fn played(cases: &[Case], spec: &Steering, seeds: u64) -> Vec<Figures> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((number, case)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            cases.get(number).map(|case| (number, case))
        } {
            let runs = runs(case, Policy::Capacity, spec, seeds, Grain::Rounded);
            done.push((number, Figures::mean(&runs)));
        }
        done
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut done: Vec<(usize, Figures)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, mean)| mean).collect()
}

fn periods(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.0}")
    } else {
        "never".to_owned()
    }
}

/// The controller beside others, on the plain case.
pub fn compared(spec: &Steering, seeds: u64) -> String {
    let mut text = format!(
        "### Beside others\n\n20 servers, load 0.65, 3 % noise, one period late, from equal weights; {seeds} \
         seeds. Periods to settle → greatest over mean utilisation in the end (part of the ring moved per \
         period).\n\n| | life 0 | 60 s | 600 s | 3,600 s |\n|---|---|---|---|---|\n"
    );
    for policy in [
        Policy::Equal,
        Policy::Naive,
        Policy::Oracle,
        Policy::Capacity,
    ] {
        let _ = write!(text, "| {} |", policy.name());
        for life in LIVES {
            let case = Case::plain(Event::Cold, life);
            let mean = Figures::mean(&runs(&case, policy, spec, seeds, Grain::Rounded));
            let _ = write!(
                text,
                " {} → {:.2} ({:.3} %) |",
                periods(mean.settle),
                mean.steady,
                mean.moved * 100.0
            );
        }
        text.push('\n');
    }
    text.push_str("| the bound life · ln(r) |");
    for life in LIVES {
        let case = Case::plain(Event::Cold, life);
        let mean = Figures::mean(&runs(&case, Policy::Equal, spec, 1, Grain::Rounded));
        let _ = write!(text, " {:.0} |", mean.bound);
    }
    text.push('\n');
    text
}

/// Cases with one life of connections and one name.
type Group = (f64, String, Vec<(Case, Figures)>);

/// The groups of the grid, by name.
fn group(case: &Case) -> String {
    match (case.event, case.lag, case.noise > 0.05) {
        (Event::Cold, lag, _) if !case.told => format!("start, {lag} periods late, untold"),
        (Event::Cold, 1, false) => "start".to_owned(),
        (Event::Cold, 1, true) => "start, 10 % noise".to_owned(),
        (Event::Cold, lag, _) => format!("start, {lag} periods late"),
        (event, _, _) => event.name().to_owned(),
    }
}

/// Which of the reaches a case is in: settle, overshoot, steady, moved.
fn reached(case: &Case, mean: &Figures) -> [bool; 4] {
    let settle = if case.life > 0.0 {
        (LONG * mean.bound).max(SHORT)
    } else {
        SHORT
    };
    let steady = if case.noise > 0.05 { 1.10 } else { 1.05 };
    [
        mean.settle <= settle,
        mean.overshoot <= 0.10,
        mean.steady <= steady,
        mean.moved <= 0.001,
    ]
}

/// The whole grid, in groups over pools and loads.
pub fn grid(spec: &Steering, seeds: u64, all: bool) -> String {
    let mut groups: Vec<Group> = Vec::new();
    let cases = scenario::grid();
    let means = played(&cases, spec, seeds);
    for (case, mean) in cases.into_iter().zip(means) {
        let name = group(&case);
        match groups
            .iter_mut()
            .find(|group| group.0 == case.life && group.1 == name)
        {
            Some(group) => group.2.push((case, mean)),
            None => groups.push((case.life, name, vec![(case, mean)])),
        }
    }
    let mut text = format!(
        "### The grid\n\n4, 20 and 100 servers, loads 0.5, 0.65 and 0.8: nine cases a row, {seeds} seeds each; \
         a case's figure is the mean over its seeds, a cell the median and the worst of the cases. \"reached\" \
         counts the cases that reach the aim for settling, overshoot, steady state and movement.\n\n\
         | life | event | settle, periods | aim | overshoot, % | steady max/mean | moved, % | reached |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    let mut out = String::new();
    for (life, name, cases) in &groups {
        let spread = |value: fn(&Figures) -> f64, digits: usize| {
            let mut values: Vec<f64> = cases.iter().map(|(_, figures)| value(figures)).collect();
            values.sort_unstable_by(f64::total_cmp);
            let (middle, worst) = (values[values.len() / 2], values[values.len() - 1]);
            let show = |value: f64| {
                if value.is_finite() {
                    format!("{value:.digits$}")
                } else {
                    "never".to_owned()
                }
            };
            format!("{} ({})", show(middle), show(worst))
        };
        let counts = cases.iter().fold([0; 4], |mut counts, (case, figures)| {
            for (count, reached) in counts.iter_mut().zip(reached(case, figures)) {
                *count += u32::from(reached);
            }
            counts
        });
        let aim = if *life > 0.0 {
            let least = |pick: fn(f64, f64) -> f64, start| {
                cases
                    .iter()
                    .map(|(_, f)| (LONG * f.bound).max(SHORT))
                    .fold(start, pick)
            };
            format!(
                "{:.0}–{:.0}",
                least(f64::min, f64::INFINITY),
                least(f64::max, 0.0)
            )
        } else {
            format!("{SHORT}")
        };
        let _ = writeln!(
            text,
            "| {life} | {name} | {} | {aim} | {} | {} | {} | {} of {} |",
            spread(|f| f.settle, 0),
            spread(|f| f.overshoot * 100.0, 1),
            spread(|f| f.steady, 3),
            spread(|f| f.moved * 100.0, 3),
            counts.map(|count| count.to_string()).join(", "),
            cases.len(),
        );
        for (case, figures) in cases {
            if all && reached(case, figures).contains(&false) {
                let _ = writeln!(
                    out,
                    "- {name}, life {life} s, {} servers, load {}: settle {:.1}, bound {:.1}, overshoot \
                     {:.3}, steady {:.3}, moved {:.5}, most {:.3}",
                    case.reals,
                    case.load,
                    figures.settle,
                    figures.bound,
                    figures.overshoot,
                    figures.steady,
                    figures.moved,
                    figures.most_moved
                );
            }
        }
    }
    if !out.is_empty() {
        let _ = write!(text, "\nOut of reach:\n\n{out}");
    }
    text
}

/// Response times.
pub fn responses(spec: &Steering, seeds: u64) -> String {
    let mut text = "### Response times\n\nServers of 1 : 2 : 4 : 8 processors (M/M/c, 10 ms of work), 3 % noise; \
                    99th percentile in ms, and against the oracle's.\n\n\
                    | servers | load | oracle | capacity (ours) | ratio | equal weights |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for (servers, load) in [
        (4, 0.5),
        (4, 0.65),
        (4, 0.8),
        (20, 0.5),
        (20, 0.65),
        (20, 0.8),
    ] {
        let mean = |policy| {
            (0..seeds)
                .map(|seed| queue::play(policy, spec, servers, load, seed))
                .sum::<f64>()
                / seeds as f64
        };
        let (oracle, ours) = (mean(Policy::Oracle), mean(Policy::Capacity));
        let equal = queue::play(Policy::Equal, spec, servers, load, 0);
        let _ = writeln!(
            text,
            "| {servers} | {load} | {:.1} | {:.1} | {:.3} | {} |",
            oracle * 1e3,
            ours * 1e3,
            ours / oracle,
            if equal > 1.0 {
                "overrun".to_owned()
            } else {
                format!("{:.1}", equal * 1e3)
            }
        );
    }
    text
}

/// With the agent's own rings.
pub fn rings(spec: &Steering, seeds: u64) -> String {
    let mut text = "### With the agent's own rings\n\nThe plain case; flows go as the slots of a rendezvous ring \
                    say, and what moves are slots.\n\n\
                    | servers | life | settle | steady max/mean | slots moved, % | most in a period, % |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for reals in [4, 20] {
        for life in [0.0, 60.0] {
            let case = Case {
                reals,
                ..Case::plain(Event::Cold, life)
            };
            let mean = Figures::mean(&runs(
                &case,
                Policy::Capacity,
                spec,
                seeds.min(3),
                Grain::Ring,
            ));
            let _ = writeln!(
                text,
                "| {reals} | {life} | {} | {:.3} | {:.3} | {:.1} |",
                periods(mean.settle),
                mean.steady,
                mean.moved * 100.0,
                mean.most_moved * 100.0
            );
        }
    }
    text
}

/// Resetting connections of those that have too many.
pub fn shedding(spec: &Steering, seeds: u64) -> String {
    let mut text = "### Shedding\n\nThe plain case with `shed_rate`: connections that are reset come back at once, as new \
                    flows go. *Reset*: connections, as a part of all that there are.\n\n\
                    | life | flows a second | settle | overshoot, % | steady max/mean | reset, % |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for life in [3_600.0, 86_400.0] {
        for shed in SHED_RATES {
            let case = Case {
                shed,
                ..Case::plain(Event::Cold, life)
            };
            // It is over soon; without, it takes several lives.
            if shed == 0.0 && life > 3_600.0 {
                continue;
            }
            let mean = Figures::mean(&runs(
                &case,
                Policy::Capacity,
                spec,
                seeds.min(3),
                Grain::Rounded,
            ));
            let _ = writeln!(
                text,
                "| {life} | {shed} | {} | {:.1} | {:.3} | {:.1} |",
                periods(mean.settle),
                mean.overshoot * 100.0,
                mean.steady,
                mean.shed * 100.0
            );
        }
    }
    text
}

/// False ejections.
pub fn probes() -> String {
    let check = probe::check(2.0);
    let mut text = format!(
        "### False ejections\n\n1,000 healthy servers probed over TCP for an hour as by default: every {} s, every {} s \
         in doubt, dead is who fails {} times in a row; {} % of the packets are lost each way.\n\n\
         | timeout | probes that failed, % | ejections in an hour |\n|---|---|---|\n",
        check.interval.as_secs_f64(),
        check.fast_interval.as_secs_f64(),
        check.unhealthy_threshold,
        probe::LOSS * 100.0
    );
    for timeout in [0.5, 1.0, 2.0] {
        let found = probe::play(1_000, 1.0, timeout, 1);
        let _ = writeln!(
            text,
            "| {timeout} s | {:.4} | {} |",
            found.failed * 100.0,
            found.ejected
        );
    }
    text
}
