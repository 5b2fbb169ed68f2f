//! The picture on the terminal.

use std::{
    io,
    time::{Duration, Instant},
};

use comfy_table::Table;

use super::{
    pool::{Explanation, Instance, Member, Service},
    timeline::Timeline,
};
use crate::{
    clients::{Client, ClientTable},
    stats::Stats,
    table::{percent, short, table},
    terminal::Terminal,
};

/// Explains the columns.
const LEGEND: &str = "score: 0 is free, 1 is full or not available; LU, MU, HU: low, medium, high utilisation, by the score; \
    cpu, memory: of the instance's own limits;\nrequests/s, pending, latency: as both proxies count them";

/// What a picture shows.
pub struct Picture<'a> {
    /// The pool and its last decision.
    pub explanation: &'a Explanation,
    /// What each proxy knows of the instances, with its address.
    pub proxies: &'a [(String, Service)],
    /// The balancer's counters.
    pub stats: &'a Stats,
    /// What the clients have recorded.
    pub clients: &'a [Client],
    /// The course of the run.
    pub timeline: &'a Timeline,
}

/// Shows pictures, and keeps the last counters for the rates.
pub struct Screen {
    terminal: Terminal,
    last: Option<Instant>,
    clients: ClientTable,
    /// Packets of each real at the last picture.
    packets: Vec<u64>,
}

impl Screen {
    /// Opens a screen whose first lines are `header`.
    pub fn open(header: String) -> io::Result<Self> {
        Ok(Self {
            terminal: Terminal::open(header)?,
            last: None,
            clients: ClientTable::default(),
            packets: Vec::new(),
        })
    }

    /// Shows a picture.
    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        let now = Instant::now();
        let passed = self.last.replace(now).map(|last| now - last);
        let lines: Vec<&str> = picture.timeline.lines().collect();
        let text = format!(
            "{}\n\n{}\n{LEGEND}\n\n{}\n\n{}\n\n{}",
            self.reals(picture, passed),
            instances(picture),
            decision(picture.explanation),
            lines.join("\n"),
            self.clients.table(picture.clients, passed),
        );
        self.terminal.show(now, &text)
    }

    /// The VIP and its reals, the proxies.
    fn reals(&mut self, picture: &Picture, passed: Option<Duration>) -> Table {
        let mut table = table(
            &["VIP, real", "share", "packets/s", "requests/s", "state", ""],
            2,
        );
        let mut packets = Vec::new();
        for vip in &picture.stats.vips {
            table.add_row([vip.vip.as_str()]);
            for real in &vip.reals {
                let before = self.packets.get(packets.len());
                let rate = before.zip(passed).map(|(before, passed)| {
                    short(real.packets.saturating_sub(*before) as f64 / passed.as_secs_f64())
                });
                packets.push(real.packets);
                let proxy = picture
                    .proxies
                    .iter()
                    .find(|(address, _)| *address == real.address);
                let service = proxy.map(|(_, service)| service);
                let requests: Option<f64> =
                    service.map(|service| service.instances.iter().map(|member| member.rate).sum());
                table.add_row([
                    format!("  {} lb-proxy", real.address),
                    percent(real.share),
                    rate.unwrap_or_default(),
                    requests.map_or(String::new(), short),
                    real.state.clone(),
                    service.map_or(String::new(), |service| {
                        format!("{} instances eligible", service.eligible)
                    }),
                ]);
            }
        }
        self.packets = packets;
        table
    }
}

/// The instances of the pool.
fn instances(picture: &Picture) -> Table {
    let mut table = table(
        &[
            "instance",
            "score",
            "cpu",
            "memory",
            "available",
            "requests/s",
            "pending",
            "latency ms",
            "state",
            "",
        ],
        2,
    );
    for instance in &picture.explanation.pool.instances {
        let members: Vec<&Member> = picture
            .proxies
            .iter()
            .flat_map(|(_, service)| &service.instances)
            .filter(|member| member.address == instance.endpoint)
            .collect();
        let rate: f64 = members.iter().map(|member| member.rate).sum();
        let pending: u64 = members.iter().map(|member| member.pending).sum();
        let latencies = members.iter().filter_map(|member| member.latency);
        let latency = latencies.reduce(f64::max);
        let part = |part: Option<f64>| part.map_or(String::new(), percent);
        let score = instance.score;
        table.add_row([
            format!("{} {}", instance.name, instance.endpoint),
            score.map_or(String::new(), |score| format!("{:.2}", score.overall)),
            part(score.and_then(|score| score.cpu)),
            part(score.and_then(|score| score.memory)),
            part(score.map(|score| score.availability)),
            short(rate),
            pending.to_string(),
            latency.map_or(String::new(), |latency| format!("{:.1}", latency * 1e3)),
            instance.state.clone(),
            note(instance, picture.timeline, &members),
        ]);
    }
    table
}

/// Describes what an instance suffers, what is done with it, and why.
fn note(instance: &Instance, timeline: &Timeline, members: &[&Member]) -> String {
    let fault = timeline
        .fault_of(&instance.name)
        .map(|fault| format!("({fault})"));
    let ejected = members
        .iter()
        .any(|member| member.ejected)
        .then(|| "ejected by a proxy".to_owned());
    let words = [instance.doing.clone(), instance.reason.clone()];
    let words = words.into_iter().filter(|text| !text.is_empty());
    let all: Vec<String> = fault.into_iter().chain(ejected).chain(words).collect();
    all.join("; ")
}

/// The last decision with its reasons.
fn decision(explanation: &Explanation) -> String {
    let pool = &explanation.pool;
    let desired = pool
        .desired
        .map_or_else(|| "?".to_owned(), |desired| desired.to_string());
    let mut text = format!(
        "pool: {} of {} instances serve, {desired} desired",
        pool.serving().count(),
        pool.instances.len()
    );
    if let Some(decision) = &explanation.decision {
        text += &format!("\ndecision: {}", decision.text);
        for ask in &decision.asks {
            let number = |value: Option<f64>| {
                value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"))
            };
            if ask.missing.is_empty() {
                text += &format!(
                    "\n  {}: needs {} instances now, {} at most in the last 10 s",
                    ask.policy,
                    number(ask.need),
                    number(ask.highest)
                );
            }
        }
        for limit in &decision.limits {
            text += &format!("\n  limit: {limit}");
        }
        if !decision.alarm.is_empty() {
            text += &format!("\n  ALARM: {}", decision.alarm);
        }
    }
    for trouble in &pool.troubles {
        text += &format!("\n  ! {trouble}");
    }
    text
}
