//! The laboratory on show: real traffic, brokers in trouble, figures each second, and a report in the end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    episode::Episode,
    interrupt::Interrupt,
    laboratory::Laboratory,
    report::{Done, Report},
    screen::{Picture, Screen},
    script::{SHORTEST, Script},
    stats::{Stats, Status},
    story::{Faults, Story},
    why::{self, Why},
};
use crate::programs::{self, Profile};

/// Between two looks at what happens.
const LOOK: Duration = Duration::from_millis(500);

/// Looks between two pictures.
const LOOKS: u32 = 2;

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
    let script = Script::new(time, laboratory.limits());
    if script.is_empty() {
        println!(
            "nothing is done to the brokers in so short a time; from --for {}s on it is",
            SHORTEST.as_secs()
        );
    }

    laboratory.start_clients()?;
    let begin = Instant::now();
    let story = watch(laboratory, begin, time, script, &mode, interrupt)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (episodes, faults) = story.finish(begin.elapsed());
    let reals: Vec<Why> = laboratory.why()?;
    let clients = laboratory.stop_clients()?;
    let stats: Stats = laboratory.stats()?;
    let requests: u64 = clients.iter().map(|client| client.record.requests).sum();
    let failed: u64 = clients.iter().map(|client| client.record.failed).sum();
    let figures = Report {
        requests: requests + faults.requests,
        failed: failed + faults.requests,
        faults: faults.words.clone(),
        xdp_mode: mode,
        seconds,
        script: episodes.iter().map(Done::from).collect(),
        clients,
        vips: stats.vips,
        reals,
    };
    if let Some(path) = report {
        figures.write(path)?;
    }
    tell(&figures, &episodes);
    if let Some(path) = report {
        println!("the figures are in {}", path.display());
    }
    judge(&figures, &faults)
}

/// The end in words.
fn tell(figures: &Report, episodes: &[Episode]) {
    println!();
    for episode in episodes {
        println!("{}", episode.summary());
    }
    println!(
        "{} requests in {:.0} s, {} failed; XDP {}",
        figures.requests, figures.seconds, figures.failed, figures.xdp_mode
    );
}

/// Fails if anything happened that is no part of the demonstration.
fn judge(figures: &Report, faults: &Faults) -> anyhow::Result<()> {
    if figures.failed == 0 && faults.count == 0 && figures.requests > 0 {
        return Ok(());
    }
    let words: Vec<&str> = faults
        .words
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
        "{} of {} requests failed, {} things went wrong: {}",
        figures.failed,
        figures.requests,
        faults.count,
        words.join("; ")
    );
}

/// Does what the script says and shows the figures until the time is over, the wish to end comes, or something is
/// no longer there.
fn watch(
    laboratory: &mut Laboratory,
    begin: Instant,
    time: Option<Duration>,
    mut script: Script,
    mode: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<Story> {
    let end = time.map(|time| begin + time);
    let mut screen = Screen::new(format!(
        "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}",
        laboratory.endpoint()?
    ));
    screen.open()?;
    let mut story = Story::new(laboratory.brokers());
    let mut next = begin;
    for look in 0_u32.. {
        laboratory.check()?;
        while let Some(step) = script.due(begin.elapsed()) {
            let before = begin.elapsed();
            laboratory.suffer(step.broker, step.deed)?;
            // What follows may come before the deed is over; what is over is so from its end on.
            let at = if step.deed.begins() {
                before
            } else {
                begin.elapsed()
            };
            story.done(step.deed, step.broker, at);
        }
        let whys = look_at(laboratory, begin, &mut story)?;
        if look % LOOKS == 0 {
            let picture = Picture {
                stats: &laboratory.stats()?,
                whys: &whys,
                clients: &laboratory.clients(),
                story: &story,
            };
            screen.show(&picture, |address| {
                laboratory
                    .broker(address)
                    .map_or_else(Default::default, |broker| {
                        let trouble = story.trouble(broker).map(|trouble| trouble.word());
                        (format!("broker {}", broker + 1), trouble)
                    })
            })?;
        }
        next += LOOK;
        let until = end.map_or(next, |end| next.min(end));
        if interrupt.wait_until(until) || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    look_at(laboratory, begin, &mut story)?;
    Ok(story)
}

/// Looks at the brokers and the clients.
fn look_at(
    laboratory: &mut Laboratory,
    begin: Instant,
    story: &mut Story,
) -> anyhow::Result<Vec<Why>> {
    let whys: Vec<Why> = laboratory.why()?;
    let at = begin.elapsed();
    story.hear(laboratory.take_outages(begin));
    for broker in 0..laboratory.brokers() {
        let reals: Vec<&Why> = whys
            .iter()
            .filter(|why| laboratory.broker(&why.real.address) == Some(broker))
            .collect();
        story.see(broker, &why::seen(at, &reals));
    }
    Ok(whys)
}
