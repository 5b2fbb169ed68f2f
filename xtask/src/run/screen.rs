//! The figures on the terminal, once a second.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use comfy_table::{CellAlignment, Table, presets};
use crossterm::{
    cursor::MoveTo,
    queue,
    style::Print,
    terminal::{self, Clear, ClearType},
};

use super::{
    report::Client,
    stats::{Stats, Vip},
};

/// Counters of one VIP or real a moment ago: packets, bytes, opened.
type Before = (u64, u64, u64);

/// What a newcomer asks about the table above it.
const LEGEND: &str = "packets and bytes of clients; the reals answer them directly. \
    share: part of new flows; ~: estimated from opened and closed connections";

/// Shows figures and remembers the last ones, to tell rates.
pub struct Screen {
    terminal: bool,
    header: String,
    begin: Instant,
    last: Option<Instant>,
    before: HashMap<(String, String), Before>,
    /// Requests of each group of clients a moment ago.
    requests: Vec<u64>,
}

impl Screen {
    /// A screen whose first lines are `header`.
    pub fn new(header: String) -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            header,
            begin: Instant::now(),
            last: None,
            before: HashMap::new(),
            requests: Vec::new(),
        }
    }

    /// Shows these figures: in the place of the last ones on a terminal, below them elsewhere.
    pub fn show(&mut self, stats: &Stats, clients: &[Client]) -> io::Result<()> {
        let now = Instant::now();
        let passed = self.last.replace(now).map(|last| now - last);
        let text = format!(
            "{}\n\n{}\n{LEGEND}\n\n{}",
            self.title(now),
            self.balancer(stats, passed),
            self.clients(clients, passed),
        );
        let mut out = io::stdout().lock();
        if !self.terminal {
            return writeln!(out, "{text}");
        }
        queue!(out, MoveTo(0, 0))?;
        // A line that is wider than the terminal would take two, and the next picture would not cover it.
        let width = terminal::size().map_or(usize::MAX, |(columns, _)| usize::from(columns));
        for line in self.header.lines().chain(text.lines()) {
            let line: String = line.chars().take(width).collect();
            queue!(
                out,
                Print(line),
                Clear(ClearType::UntilNewLine),
                Print("\r\n")
            )?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }

    /// Clears the terminal for the first time.
    pub fn open(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.terminal {
            queue!(out, Clear(ClearType::All))?;
        } else {
            writeln!(out, "{}", self.header)?;
        }
        out.flush()
    }

    fn title(&self, now: Instant) -> String {
        format!(
            "after {} s; Ctrl-C ends and removes everything",
            (now - self.begin).as_secs()
        )
    }

    fn balancer(&mut self, stats: &Stats, passed: Option<Duration>) -> Table {
        let mut table = table(&[
            "VIP, real",
            "weight",
            "share",
            "packets/s",
            "bytes/s",
            "new flows/s",
            "live flows",
            "state",
        ]);
        for vip in &stats.vips {
            let rates = self.rates((&vip.vip, ""), (vip.packets, vip.bytes, vip.opened), passed);
            let live: u64 = vip.reals.iter().map(|real| real.flows).sum();
            let weight: u32 = vip.reals.iter().map(|real| real.effective_weight).sum();
            let exact = vip.reals.iter().all(|real| real.flows_exact);
            let [packets, bytes, opened] = rates;
            table.add_row([
                vip.vip.clone(),
                weight.to_string(),
                String::new(),
                packets,
                bytes,
                opened,
                flows(live, exact),
                dropped(vip),
            ]);
            for real in &vip.reals {
                let rates = self.rates(
                    (&vip.vip, &real.address),
                    (real.packets, real.bytes, real.opened),
                    passed,
                );
                let [packets, bytes, opened] = rates;
                table.add_row([
                    format!("  {}", real.address),
                    real.effective_weight.to_string(),
                    format!("{:.1} %", real.share * 100.0),
                    packets,
                    bytes,
                    opened,
                    flows(real.flows, real.flows_exact),
                    real.state.clone(),
                ]);
            }
        }
        table
    }

    fn rates(
        &mut self,
        (vip, real): (&str, &str),
        now: Before,
        passed: Option<Duration>,
    ) -> [String; 3] {
        let before = self.before.insert((vip.to_owned(), real.to_owned()), now);
        let (Some(before), Some(passed)) = (before, passed) else {
            return [const { String::new() }; 3];
        };
        let rate =
            |now: u64, before: u64| short(now.saturating_sub(before) as f64 / passed.as_secs_f64());
        [
            rate(now.0, before.0),
            rate(now.1, before.1),
            rate(now.2, before.2),
        ]
    }

    fn clients(&mut self, clients: &[Client], passed: Option<Duration>) -> Table {
        let mut table = table(&[
            "clients",
            "VIP",
            "connections",
            "requests/s",
            "requests",
            "failed",
            "p50 ms",
            "p99 ms",
            "",
        ]);
        let requests = clients
            .iter()
            .map(|client| client.record.requests)
            .collect();
        let before = std::mem::replace(&mut self.requests, requests);
        for (index, Client { name, vip, record }) in clients.iter().enumerate() {
            let millis =
                |micros: Option<u64>| micros.map(|micros| format!("{:.2}", micros as f64 / 1000.0));
            let rate = before.get(index).zip(passed).map(|(before, passed)| {
                short(record.requests.saturating_sub(*before) as f64 / passed.as_secs_f64())
            });
            table.add_row([
                name.clone(),
                vip.clone(),
                record.connections.to_string(),
                rate.unwrap_or_default(),
                record.requests.to_string(),
                record.failed.to_string(),
                millis(record.latency_p50_us).unwrap_or_default(),
                millis(record.latency_p99_us).unwrap_or_default(),
                record.errors.first().cloned().unwrap_or_default(),
            ]);
        }
        table
    }
}

fn flows(count: u64, exact: bool) -> String {
    if exact {
        count.to_string()
    } else {
        format!("~{count}")
    }
}

fn dropped(vip: &Vip) -> String {
    if vip.dropped_packets == 0 {
        String::new()
    } else {
        format!("{} dropped", vip.dropped_packets)
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A number of at most five characters and a unit.
fn short(number: f64) -> String {
    let mut text = String::new();
    let (divisor, unit) = match number {
        number if number >= 1e9 => (1e9, "G"),
        number if number >= 1e6 => (1e6, "M"),
        number if number >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let digits = usize::from(divisor > 1.0);
    // Writing to a string does not fail.
    let _ = write!(text, "{:.digits$}{unit}", number / divisor);
    text
}
