//! The laboratory on show: real traffic, figures each second, and a report in the end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    interrupt::Interrupt,
    laboratory::Laboratory,
    report::Report,
    screen::Screen,
    stats::{Stats, Status},
};
use crate::programs::{self, Profile};

/// Between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

/// Builds everything, shows it and removes it.
pub fn run(time: Option<Duration>, report: Option<&Path>) -> anyhow::Result<()> {
    // Until there is something to remove, Ctrl-C ends cargo and us at once.
    let folder = programs::build(Profile::Release)?;
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("LB_BIN_DIR", &folder) };
    let interrupt = Interrupt::new()?;
    let mut laboratory = Laboratory::new()?;
    let outcome = show(&mut laboratory, time, report, &interrupt);
    // After a failure, too; and the value would take it all along even if something panicked.
    println!("removing the laboratory…");
    drop(laboratory);
    println!("the laboratory is removed");
    outcome
}

fn show(
    laboratory: &mut Laboratory,
    time: Option<Duration>,
    report: Option<&Path>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    laboratory.set_up(interrupt)?;
    let status: Status = laboratory.read("status")?;
    let mode = status
        .interfaces
        .first()
        .context("the agent is attached to no interface")?
        .xdp_mode
        .clone();

    laboratory.start_clients()?;
    let begin = Instant::now();
    watch(laboratory, begin, time, &mode, interrupt)?;
    let seconds = begin.elapsed().as_secs_f64();
    let clients = laboratory.stop_clients()?;
    let stats: Stats = laboratory.read("stats")?;
    let figures = Report {
        requests: clients.iter().map(|client| client.record.requests).sum(),
        failed: clients.iter().map(|client| client.record.failed).sum(),
        xdp_mode: mode,
        seconds,
        clients,
        vips: stats.vips,
    };
    if let Some(path) = report {
        figures.write(path)?;
    }
    println!(
        "\n{} requests in {:.0} s, {} failed; XDP {}",
        figures.requests, figures.seconds, figures.failed, figures.xdp_mode
    );
    if let Some(path) = report {
        println!("the figures are in {}", path.display());
    }
    if figures.failed > 0 || figures.requests == 0 {
        let words: Vec<&str> = figures
            .clients
            .iter()
            .flat_map(|client| &client.record.errors)
            .map(String::as_str)
            .collect();
        bail!(
            "{} of {} requests failed: {}",
            figures.failed,
            figures.requests,
            words.join("; ")
        );
    }
    Ok(())
}

/// Shows the figures until the time is over, the wish to end comes, or something is no longer there.
fn watch(
    laboratory: &mut Laboratory,
    begin: Instant,
    time: Option<Duration>,
    mode: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let end = time.map(|time| begin + time);
    let mut screen = Screen::new(format!(
        "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}",
        laboratory.endpoint()?
    ));
    screen.open()?;
    let mut next = begin;
    loop {
        laboratory.check()?;
        screen.show(&laboratory.read("stats")?, &laboratory.clients())?;
        next += REFRESH;
        let until = end.map_or(next, |end| next.min(end));
        if interrupt.wait_until(until) || end.is_some_and(|end| Instant::now() >= end) {
            return Ok(());
        }
    }
}
