//! Plays situations under all policies, and reports as Markdown tables.

use std::{
    fmt::Write as _,
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use lb_steering::LimitedBy;

use super::{
    play::{Outcome, play, play_watched},
    policy::Policy,
    scenario::{Group, Scenario},
};

/// The floor: points of lost and of late requests by which steering may be worse than the operator's weights.
pub const MOST_LOST: f64 = 0.5;
/// See [`MOST_LOST`].
pub const MOST_LATE: f64 = 2.0;

/// A situation and what became of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The situation.
    pub scenario: Scenario,
    /// Lost and late requests in percent, in the order of [`Policy::ALL`]; means over the seeds.
    pub results: Vec<(f64, f64)>,
}

impl Row {
    /// Lost requests in points: steering's less the operator's.
    pub fn more_lost(&self) -> f64 {
        self.results[0].0 - self.results[1].0
    }

    /// Late requests in points: steering's less the operator's.
    pub fn more_late(&self) -> f64 {
        self.results[0].1 - self.results[1].1
    }

    /// Whether it is below the floor.
    pub fn is_harm(&self) -> bool {
        self.more_lost() > MOST_LOST || self.more_late() > MOST_LATE
    }

    /// What steering gains of what the oracle gains over the operator's weights, in percent of lost and late requests.
    pub fn gained(&self) -> f64 {
        let bad = |policy: usize| self.results[policy].0 + self.results[policy].1;
        (bad(1) - bad(0)) / (bad(1) - bad(3)).max(0.01) * 100.0
    }

    /// How far it is below the floor, or above it; in multiples of what is allowed.
    fn badness(&self) -> f64 {
        (self.more_lost() / MOST_LOST).max(self.more_late() / MOST_LATE)
    }
}

/// How often a policy is played: the last two are only there to compare with.
fn seeds_of(policy: usize, seeds: u64) -> u64 {
    if policy < 2 { seeds } else { 1 }
}

/// Plays situations on all processors. Returns rows in their order.
pub fn played(scenarios: &[Scenario], first_seed: u64, seeds: u64) -> Vec<Row> {
    let policies = Policy::ALL.len();
    let mut jobs: Vec<(usize, u64)> = Vec::new();
    for cell in 0..scenarios.len() * policies {
        jobs.extend((0..seeds_of(cell % policies, seeds)).map(|seed| (cell, first_seed + seed)));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Outcome)> = Vec::new();
        while let Some((cell, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scenario = &scenarios[cell / policies];
            done.push((*cell, play(scenario, Policy::ALL[cell % policies], *seed)));
        }
        done
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let done: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut cells = vec![(0.0, 0.0); scenarios.len() * policies];
    for (cell, outcome) in done {
        let seeds = seeds_of(cell % policies, seeds) as f64;
        cells[cell].0 += outcome.lost_percent() / seeds;
        cells[cell].1 += outcome.late_percent() / seeds;
    }
    scenarios
        .iter()
        .zip(cells.chunks(policies))
        .map(|(scenario, results)| Row {
            scenario: scenario.clone(),
            results: results.to_vec(),
        })
        .collect()
}

const HEAD: &str = "| situation | steering | operator | least connections | oracle | more lost | more late | |\n\
                    |---|---|---|---|---|---|---|---|\n";

fn line(row: &Row) -> String {
    let scenario = &row.scenario;
    let mut text = format!("| {} |", scenario.name);
    for (lost, late) in &row.results {
        let _ = write!(text, " {lost:.1}, {late:.1} |");
    }
    let mark = match (row.is_harm(), scenario.group) {
        (true, _) => "**harm**".to_owned(),
        (false, Group::Gain) => format!("gains {:.0} %", row.gained()),
        (false, _) => String::new(),
    };
    let _ = writeln!(
        text,
        " {:+.1} | {:+.1} | {mark} |",
        row.more_lost(),
        row.more_late()
    );
    text
}

/// Returns the tables: known harm in full, the worst of the variants (all with `all`), gains, and counts.
pub fn tables(rows: &[Row], seeds: u64, all: bool) -> String {
    let of = |group: Group| rows.iter().filter(move |row| row.scenario.group == group);
    let mut text = format!(
        "Lost and late requests in %, means of {seeds} seeds. **harm**: steering is worse than the operator's weights by \
         more than {MOST_LOST} points of lost or {MOST_LATE} points of late requests.\n"
    );
    let mut variants: Vec<&Row> = of(Group::Variant).collect();
    if !all {
        variants.sort_by(|a, b| b.badness().total_cmp(&a.badness()));
        variants.truncate(10);
    }
    let known: Vec<&Row> = of(Group::Known).collect();
    let gains: Vec<&Row> = of(Group::Gain).collect();
    let worst = if all {
        "Variants"
    } else {
        "The worst of the variants"
    };
    for (title, rows) in [
        ("Situations in which steering was seen to do harm", known),
        (worst, variants),
        ("Situations in which steering is to gain", gains),
    ] {
        if !rows.is_empty() {
            let _ = write!(text, "\n#### {title}\n\n{HEAD}");
            text.extend(rows.into_iter().map(line));
        }
    }
    let harm = rows.iter().filter(|row| row.is_harm()).count();
    let _ = writeln!(
        text,
        "\n{} situations, {harm} of them below the floor.",
        rows.len()
    );
    text
}

/// Plays a situation under steering and returns each period: shares of new flows and readings of the first servers.
pub fn trace(scenario: &Scenario, seed: u64) -> String {
    let mut text = String::new();
    play_watched(scenario, Policy::Steering, seed, |period| {
        let _ = write!(
            text,
            "{:7.0} lost {:5.1} late {:5.1} |",
            period.at,
            period.outcome.lost_percent(),
            period.outcome.late_percent()
        );
        for (share, used) in period.shares.iter().zip(&period.utilisation).take(8) {
            let used = used.unwrap_or(f64::NAN);
            let _ = write!(text, " {:5.1}% u{used:.2}", share * 100.0);
        }
        if scenario.life > 0.0 {
            text.push_str(" |");
            for connections in period.connections.iter().take(8) {
                let _ = write!(text, " {connections:.0}");
            }
        }
        for (server, limit) in &period.limits {
            if *limit != LimitedBy::Nothing {
                let _ = write!(text, " | {server}: {limit}");
            }
        }
        text.push('\n');
    });
    text
}
