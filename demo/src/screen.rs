//! The picture on the terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use comfy_table::Table;
use crossterm::{
    cursor::MoveTo,
    queue,
    style::Print,
    terminal::{self, Clear, ClearType},
};

use crate::{
    clients::Client,
    reals::{LEGEND, Label, Reals},
    stats::Stats,
    table::{short, table},
    timeline::Timeline,
    why::Why,
};

/// What a picture shows.
pub struct Picture<'a> {
    /// The balancer's counters.
    pub stats: &'a Stats,
    /// What the reals' weights follow from.
    pub whys: &'a [Why],
    /// What the clients have recorded.
    pub clients: &'a [Client],
    /// The course of the run.
    pub timeline: &'a Timeline,
}

/// Shows pictures, and keeps the last counters for the rates.
pub struct Screen {
    terminal: bool,
    header: String,
    begin: Instant,
    last: Option<Instant>,
    reals: Reals,
    /// Requests of each group of clients at the last picture.
    requests: Vec<u64>,
}

impl Screen {
    /// Creates a screen whose first lines are `header`.
    pub fn new(header: String) -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            header,
            begin: Instant::now(),
            last: None,
            reals: Reals::default(),
            requests: Vec::new(),
        }
    }

    /// Shows a picture: on a terminal in place of the last one, otherwise below it. `label` returns the label of an
    /// address.
    pub fn show(&mut self, picture: &Picture, label: impl Fn(&str) -> Label) -> io::Result<()> {
        let now = Instant::now();
        let passed = self.last.replace(now).map(|last| now - last);
        let reals = self.reals.table(picture.stats, picture.whys, label, passed);
        let lines: Vec<&str> = picture.timeline.lines().collect();
        let text = format!(
            "{}\n\n{reals}\n{LEGEND}\n\n{}\n\n{}",
            self.title(now),
            lines.join("\n"),
            self.clients(picture.clients, passed),
        );
        let mut out = io::stdout().lock();
        if !self.terminal {
            return writeln!(out, "{text}");
        }
        queue!(out, MoveTo(0, 0))?;
        // Text beyond the terminal's width or height would make it scroll.
        let (width, height) = terminal::size()
            .map_or((usize::MAX, usize::MAX), |(columns, rows)| {
                (usize::from(columns), usize::from(rows))
            });
        let lines = self.header.lines().chain(text.lines());
        for line in lines.take(height.saturating_sub(1)) {
            let line: String = line.trim_end().chars().take(width).collect();
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

    /// Clears the terminal, or prints the header if the output is not a terminal.
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
            "{} s; Ctrl-C ends the demonstration and removes everything",
            (now - self.begin).as_secs()
        )
    }

    fn clients(&mut self, clients: &[Client], passed: Option<Duration>) -> Table {
        let mut table = table(
            &[
                "clients",
                "VIP",
                "connections",
                "requests/s",
                "requests",
                "failed",
                "outages",
                "p50 ms",
                "p99 ms",
                "",
            ],
            1,
        );
        let requests = clients
            .iter()
            .map(|client| client.record.requests)
            .collect();
        let before = std::mem::replace(&mut self.requests, requests);
        for (index, client) in clients.iter().enumerate() {
            let record = &client.record;
            let millis =
                |micros: Option<u64>| micros.map(|micros| format!("{:.2}", micros as f64 / 1000.0));
            let rate = before.get(index).zip(passed).map(|(before, passed)| {
                short(record.requests.saturating_sub(*before) as f64 / passed.as_secs_f64())
            });
            let outages = client.outages.map(|outages| outages.to_string());
            table.add_row([
                client.name.clone(),
                client.vip.clone(),
                record.connections.to_string(),
                rate.unwrap_or_default(),
                record.requests.to_string(),
                record.failed.to_string(),
                outages.unwrap_or_default(),
                millis(record.latency_p50_us).unwrap_or_default(),
                millis(record.latency_p99_us).unwrap_or_default(),
                record.errors.first().cloned().unwrap_or_default(),
            ]);
        }
        table
    }
}
