//! The report: Markdown tables, which can be read in a terminal too.

use std::{
    fmt::Write as _,
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use lb_steering::Steering;

use crate::{
    figures::Figures,
    policy::Policy,
    probe, queue,
    scenario::{self, Case, Event},
    simulation::{Quantisation, play},
};

/// Lives of connections, seconds.
pub const LIVES: [f64; 4] = [0.0, 60.0, 600.0, 3_600.0];
/// Aim: periods in which a pool with short connections settles, and the lowest aim for long ones.
const SHORT: f64 = 12.0;
/// Values of `shed_rate`; the plain case has 292,500 connections.
const SHED_RATES: [f64; 4] = [0.0, 100.0, 300.0, 1_000.0];
/// Aim: the multiple of the bound in which a pool with long connections settles.
const LONG: f64 = 1.3;

fn runs(
    case: &Case,
    policy: Policy,
    settings: &Steering,
    seeds: u64,
    quantisation: Quantisation,
) -> Vec<Figures> {
    (0..seeds)
        .map(|seed| Figures::of(case, &play(case, policy, settings, seed, quantisation)))
        .collect()
}

/// Plays all cases of the grid on all processors. Returns their means in the order of the cases.
fn played(cases: &[Case], settings: &Steering, seeds: u64) -> Vec<Figures> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((number, case)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            cases.get(number).map(|case| (number, case))
        } {
            let runs = runs(
                case,
                Policy::Capacity,
                settings,
                seeds,
                Quantisation::Rounded,
            );
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

/// Compares the controller with other policies, on the plain case.
pub fn compared(settings: &Steering, seeds: u64) -> String {
    let mut text = format!(
        "### Comparison with other policies\n\n20 servers, load 0.65, 3 % noise, one period late, from equal weights; {seeds} \
         seeds. Periods to settle → highest over mean utilisation in steady state (share of the ring moved per \
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
            let mean = Figures::mean(&runs(&case, policy, settings, seeds, Quantisation::Rounded));
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
    text.push_str("| lower bound life · ln(r) |");
    for life in LIVES {
        let case = Case::plain(Event::Cold, life);
        let mean = Figures::mean(&runs(
            &case,
            Policy::Equal,
            settings,
            1,
            Quantisation::Rounded,
        ));
        let _ = write!(text, " {:.0} |", mean.bound);
    }
    text.push('\n');
    text
}

/// Cases with the same life of connections and the same name.
type Group = (f64, String, Vec<(Case, Figures)>);

/// Returns the name of a case's group.
fn group(case: &Case) -> String {
    match (case.event, case.lag, case.noise > 0.05) {
        (Event::Cold, lag, _) if !case.reports_age => {
            format!("start, {lag} periods late, age unreported")
        }
        (Event::Cold, 1, false) => "start".to_owned(),
        (Event::Cold, 1, true) => "start, 10 % noise".to_owned(),
        (Event::Cold, lag, _) => format!("start, {lag} periods late"),
        (event, _, _) => event.name().to_owned(),
    }
}

/// Returns which aims a case reaches: settling, overshoot, steady state, movement.
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

/// Plays the whole grid, in groups over pools and loads.
pub fn grid(settings: &Steering, seeds: u64, all: bool) -> String {
    let mut groups: Vec<Group> = Vec::new();
    let cases = scenario::grid();
    let means = played(&cases, settings, seeds);
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
        "### The grid\n\n4, 20 and 100 servers, loads 0.5, 0.65 and 0.8: nine cases per row, {seeds} seeds each. \
         A case's figure is the mean over its seeds; a cell has the median and the worst of the cases. \"reached\" \
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
        let _ = write!(text, "\nCases that miss an aim:\n\n{out}");
    }
    text
}

/// Compares response times.
pub fn responses(settings: &Steering, seeds: u64) -> String {
    let mut text = "### Response times\n\nServers of 1 : 2 : 4 : 8 processors (M/M/c, 10 ms of work), 3 % noise; \
                    99th percentile in ms, and its ratio to the oracle's.\n\n\
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
                .map(|seed| queue::play(policy, settings, servers, load, seed))
                .sum::<f64>()
                / seeds as f64
        };
        let (oracle, ours) = (mean(Policy::Oracle), mean(Policy::Capacity));
        let equal = queue::play(Policy::Equal, settings, servers, load, 0);
        let _ = writeln!(
            text,
            "| {servers} | {load} | {:.1} | {:.1} | {:.3} | {} |",
            oracle * 1e3,
            ours * 1e3,
            ours / oracle,
            if equal > 1.0 {
                "overloaded".to_owned()
            } else {
                format!("{:.1}", equal * 1e3)
            }
        );
    }
    text
}

/// Plays the plain case with rings that the agent's code builds.
pub fn rings(settings: &Steering, seeds: u64) -> String {
    let mut text = "### With real rings\n\nThe plain case, with flows split by the slots of a rendezvous \
                    ring, and movement counted in slots.\n\n\
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
                settings,
                seeds.min(3),
                Quantisation::Ring,
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

/// Plays the plain case with shedding.
pub fn shedding(settings: &Steering, seeds: u64) -> String {
    let mut text = "### Shedding\n\nThe plain case with `shed_rate`: clients whose connections are reset reconnect at once, \
                    as new flows. *Reset*: connections, as a share of all.\n\n\
                    | life | flows a second | settle | overshoot, % | steady max/mean | reset, % |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for life in [3_600.0, 86_400.0] {
        for shed in SHED_RATES {
            let case = Case {
                shed,
                ..Case::plain(Event::Cold, life)
            };
            // Without shedding this takes several lives.
            if shed == 0.0 && life > 3_600.0 {
                continue;
            }
            let mean = Figures::mean(&runs(
                &case,
                Policy::Capacity,
                settings,
                seeds.min(3),
                Quantisation::Rounded,
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

/// Counts healthy servers that are taken for dead.
pub fn probes() -> String {
    let check = probe::check(2.0);
    let mut text = format!(
        "### False ejections\n\n1,000 healthy servers, probed over TCP for an hour with the defaults: every {} s, every \
         {} s in doubt, down after {} failures in a row. {} % of the packets are lost in each direction.\n\n\
         | timeout | probes that failed, % | ejections in an hour |\n|---|---|---|\n",
        check.interval.as_secs_f64(),
        check.fast_interval().as_secs_f64(),
        check.unhealthy_threshold,
        probe::LOSS * 100.0
    );
    for timeout in [0.5, 1.0, 2.0] {
        let ejections = probe::play(1_000, 1.0, timeout, 1);
        let _ = writeln!(
            text,
            "| {timeout} s | {:.4} | {} |",
            ejections.failed * 100.0,
            ejections.ejected
        );
    }
    text
}
