//! A pool of web servers behind the HTTP tier: its load rises and falls, instances are crashed and killed, and the pool grows,
//! mends itself and shrinks.

mod image;
mod pool;
mod proxy;
mod report;
mod schedule;
mod screen;
mod testbed;
mod timeline;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

pub use self::testbed::{Driver, WebTestbed};
use self::{
    pool::Explanation,
    report::Report,
    schedule::{SHORTEST, Schedule, Step},
    screen::{Picture, Screen},
    timeline::Timeline,
};
use crate::{
    interrupt::Interrupt,
    pacing::pace,
    stats::{Stats, Status},
};

/// Sets the testbed up and shows it for `time` or until a signal arrives.
pub fn show(
    testbed: &mut WebTestbed,
    driver: Option<Driver>,
    time: Option<Duration>,
    report: Option<&Path>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    testbed.set_up(driver, interrupt)?;
    let status: Status = testbed.read("status")?;
    let mode = status
        .interfaces
        .first()
        .context("the agent is attached to no interface")?
        .xdp_mode
        .clone();
    let schedule = Schedule::new(time);
    if schedule.is_empty() {
        println!(
            "the load stays as it is in so short a run; with --for {}s or more it rises and falls",
            SHORTEST.as_secs()
        );
    }

    testbed.start_clients()?;
    let begin = Instant::now();
    let mut timeline = watch(testbed, begin, time, schedule, &mode, interrupt)?;
    let seconds = begin.elapsed().as_secs_f64();
    let last = observe(testbed, begin, &mut timeline)?;
    let (clients, failures) = testbed.stop_clients(begin)?;
    timeline.add_failures(failures);
    let (windows, violations) = timeline.finish(begin.elapsed());
    let stats: Stats = testbed.read("stats")?;
    let figures = Report {
        requests: clients.iter().map(|client| client.record.requests).sum(),
        failed: violations.requests,
        violations: violations.descriptions.clone(),
        xdp_mode: mode,
        driver: testbed.driver_name().to_owned(),
        seconds,
        windows: windows.iter().map(report::Window::from).collect(),
        clients,
        vips: stats.vips,
        pool: last,
    };
    if let Some(path) = report {
        crate::report::write(&figures, path)?;
    }
    println!();
    for window in &figures.windows {
        println!("{}", window.summary);
    }
    let explained: u64 = figures.windows.iter().map(|window| window.failed).sum();
    println!(
        "{} requests in {seconds:.0} s, {explained} answered by a crashed instance, {} failed otherwise; XDP {}, \
         instances by the driver {}",
        figures.requests, figures.failed, figures.xdp_mode, figures.driver
    );
    if let Some(path) = report {
        println!("the figures are in {}", path.display());
    }
    // Failures of requests are among the violations; the clients' own list has the explained ones, too.
    violations.judge(figures.requests, figures.failed, &[])
}

/// Follows the schedule and shows pictures until the time is over, a signal arrives, or a process has ended.
fn watch(
    testbed: &mut WebTestbed,
    begin: Instant,
    time: Option<Duration>,
    mut schedule: Schedule,
    mode: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<Timeline> {
    let mut screen = Screen::open(testbed.header(mode)?)?;
    let mut timeline = Timeline::new(testbed::MIN);
    pace(begin, time, interrupt, |is_picture_due| {
        testbed.check()?;
        while let Some(step) = schedule.due(begin.elapsed()) {
            apply(testbed, step, begin, &mut timeline)?;
        }
        let explanation = observe(testbed, begin, &mut timeline)?;
        if is_picture_due {
            let picture = Picture {
                explanation: &explanation,
                proxies: &testbed.proxies()?,
                stats: &testbed.read("stats")?,
                clients: &testbed.clients(),
                timeline: &timeline,
            };
            screen.show(&picture)?;
        }
        Ok(())
    })?;
    Ok(timeline)
}

/// Does what the schedule says.
fn apply(
    testbed: &WebTestbed,
    step: Step,
    begin: Instant,
    timeline: &mut Timeline,
) -> anyhow::Result<()> {
    let explanation = testbed.explain()?;
    let serving: Vec<_> = explanation.pool.serving().collect();
    let victim = match step {
        Step::LoadUp | Step::LoadDown => None,
        Step::Crash => serving.first(),
        Step::Kill => serving.last(),
    };
    // Consequences may come before the call returns.
    timeline.record(
        step,
        victim.map(|victim| victim.name.as_str()),
        serving.len(),
        begin.elapsed(),
    );
    match (step, victim) {
        (Step::LoadUp, _) => testbed.raise_load(),
        (Step::LoadDown, _) => testbed.lower_load(),
        (Step::Crash, Some(victim)) => testbed.crash(victim)?,
        (Step::Kill, Some(victim)) => testbed.kill(victim)?,
        (Step::Crash | Step::Kill, None) => {}
    }
    Ok(())
}

/// Takes the state of the pool and the clients' failures into the timeline.
fn observe(
    testbed: &WebTestbed,
    begin: Instant,
    timeline: &mut Timeline,
) -> anyhow::Result<Explanation> {
    // Asked first: a window whose end it sees explains the failures until then.
    let failures = testbed.take_failures(begin);
    let explanation = testbed.explain()?;
    timeline.observe(begin.elapsed(), &explanation);
    timeline.add_failures(failures);
    Ok(explanation)
}
