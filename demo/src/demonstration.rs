//! Runs the demonstration: real traffic, faults, a picture every second, and a report in the end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    fault_window::FaultWindow,
    interrupt::Interrupt,
    report::{Report, Window},
    schedule::{Edge, SHORTEST, Schedule},
    screen::{Picture, Screen},
    stats::{Stats, Status},
    testbed::DemoTestbed,
    timeline::{Timeline, Violations},
    why::{self, Why},
};

/// Interval at which the agent and the clients are asked for news.
const POLL: Duration = Duration::from_millis(500);

/// Polls per picture.
const POLLS_PER_PICTURE: u32 = 2;

/// Builds the testbed, shows it for `time` or until a signal arrives, and removes it.
pub fn run(time: Option<Duration>, report: Option<&Path>) -> anyhow::Result<()> {
    let interrupt = Interrupt::new()?;
    let mut testbed = DemoTestbed::new()?;
    let outcome = show(&mut testbed, time, report, &interrupt);
    // After a failure, too; a panic drops the testbed as well.
    println!("removing the testbed…");
    drop(testbed);
    println!("the testbed is removed");
    outcome
}

fn show(
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
        figures.write(path)?;
    }
    print_result(&figures, &windows);
    if let Some(path) = report {
        println!("the figures are in {}", path.display());
    }
    judge(&figures, &violations)
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

/// Fails if anything happened that is neither part of the demonstration nor a consequence of it.
fn judge(figures: &Report, violations: &Violations) -> anyhow::Result<()> {
    if figures.failed == 0 && violations.count == 0 && figures.requests > 0 {
        return Ok(());
    }
    let descriptions: Vec<&str> = violations
        .descriptions
        .iter()
        .chain(
            figures
                .clients
                .iter()
                .flat_map(|client| &client.record.errors),
        )
        .map(String::as_str)
        .collect();
    bail!(
        "{} of {} requests failed, {} unexpected events: {}",
        figures.failed,
        figures.requests,
        violations.count,
        descriptions.join("; ")
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
    let end = time.map(|time| begin + time);
    let mut screen = Screen::new(format!(
        "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}",
        testbed.endpoint()?
    ));
    screen.open()?;
    let mut timeline = Timeline::new(testbed.brokers());
    let mut next = begin;
    for poll in 0_u32.. {
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
        if poll % POLLS_PER_PICTURE == 0 {
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
        next += POLL;
        let until = end.map_or(next, |end| next.min(end));
        if interrupt.wait_until(until) || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
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
