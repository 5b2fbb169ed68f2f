//! Brokers and web servers behind VIPs: real traffic, faults, a picture every second, and a report in the end.

mod broker;
mod fault_window;
mod groups;
mod reals;
mod report;
mod schedule;
mod screen;
mod testbed;
mod timeline;
mod why;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

pub use self::testbed::DemoTestbed;
use self::{
    fault_window::FaultWindow,
    report::{Report, Window},
    schedule::{Edge, SHORTEST, Schedule},
    screen::{Picture, Screen},
    timeline::Timeline,
    why::Why,
};
use crate::{
    interrupt::Interrupt,
    pacing::pace,
    stats::{Stats, Status},
};

/// Sets the testbed up and shows it for `time` or until a signal arrives.
pub fn show(
    testbed: &mut DemoTestbed,
    time: Option<Duration>,
    report: Option<&Path>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    testbed.set_up(interrupt)?;
    let status: Status = testbed.read("status")?;
    let mode = status
        .interfaces
        .first()
        .context("the agent is attached to no interface")?
        .xdp_mode
        .clone();
    let schedule = Schedule::new(time, testbed.cpu_limits());
    if schedule.is_empty() {
        println!(
            "the brokers suffer no faults in so short a run; with --for {}s or more they do",
            SHORTEST.as_secs()
        );
    }

    testbed.start_clients()?;
    let begin = Instant::now();
    let timeline = watch(testbed, begin, time, schedule, &mode, interrupt)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (windows, violations) = timeline.finish(begin.elapsed());
    let reals: Vec<Why> = testbed.why()?;
    let clients = testbed.stop_clients()?;
    let stats: Stats = testbed.stats()?;
    let requests: u64 = clients.iter().map(|client| client.record.requests).sum();
    let failed: u64 = clients.iter().map(|client| client.record.failed).sum();
    let figures = Report {
        requests: requests + violations.requests,
        failed: failed + violations.requests,
        violations: violations.descriptions.clone(),
        xdp_mode: mode,
        seconds,
        windows: windows.iter().map(Window::from).collect(),
        clients,
        vips: stats.vips,
        reals,
    };
    if let Some(path) = report {
        crate::report::write(&figures, path)?;
    }
    print_result(&figures, &windows);
    if let Some(path) = report {
        println!("the figures are in {}", path.display());
    }
    violations.judge(figures.requests, figures.failed, &figures.clients)
}

/// Prints the summary of the run.
fn print_result(figures: &Report, windows: &[FaultWindow]) {
    println!();
    for window in windows {
        println!("{}", window.summary());
    }
    println!(
        "{} requests in {:.0} s, {} failed; XDP {}",
        figures.requests, figures.seconds, figures.failed, figures.xdp_mode
    );
    let shares: Vec<String> = figures
        .vips
        .iter()
        .map(|vip| format!("{} {:.2} %", vip.vip, vip.table_share * 100.0))
        .collect();
    println!(
        "packets that consulted the flow table: {}",
        shares.join(", ")
    );
}

/// Follows the schedule and shows pictures until the time is over, a signal arrives, or a process has ended.
fn watch(
    testbed: &mut DemoTestbed,
    begin: Instant,
    time: Option<Duration>,
    mut schedule: Schedule,
    mode: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<Timeline> {
    let mut screen = Screen::open(format!(
        "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}",
        testbed.endpoint()?
    ))?;
    let mut timeline = Timeline::new(testbed.brokers());
    pace(begin, time, interrupt, |is_picture_due| {
        testbed.check()?;
        while let Some(step) = schedule.due(begin.elapsed()) {
            let before = begin.elapsed();
            testbed.apply(step.broker, step.fault, step.edge)?;
            // Consequences may come before `apply` returns, so a fault begins when it is called; a repaired broker
            // serves again only when it has returned.
            let at = match step.edge {
                Edge::Begin => before,
                Edge::End => begin.elapsed(),
            };
            timeline.record(step.fault, step.edge, step.broker, at);
        }
        let whys = observe(testbed, begin, &mut timeline)?;
        if is_picture_due {
            let picture = Picture {
                stats: &testbed.stats()?,
                whys: &whys,
                clients: &testbed.clients(),
                timeline: &timeline,
            };
            screen.show(&picture, |address| {
                testbed
                    .broker(address)
                    .map_or_else(Default::default, |broker| {
                        let fault = timeline.current_fault(broker);
                        (
                            format!("broker {}", broker + 1),
                            fault.map(|fault| fault.adjective()),
                        )
                    })
            })?;
        }
        Ok(())
    })?;
    observe(testbed, begin, &mut timeline)?;
    Ok(timeline)
}

/// Takes the state of the brokers and the clients' outages into the timeline.
fn observe(
    testbed: &mut DemoTestbed,
    begin: Instant,
    timeline: &mut Timeline,
) -> anyhow::Result<Vec<Why>> {
    let whys: Vec<Why> = testbed.why()?;
    let at = begin.elapsed();
    timeline.add_outages(testbed.take_outages(begin));
    for broker in 0..testbed.brokers() {
        let reals: Vec<&Why> = whys
            .iter()
            .filter(|why| testbed.broker(&why.real.address) == Some(broker))
            .collect();
        timeline.observe(broker, &why::snapshot(at, &reals));
    }
    Ok(whys)
}
