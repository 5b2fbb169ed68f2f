//! The picture on the terminal.

use std::{io, time::Instant};

use super::{
    reals::{LEGEND, Label, Reals},
    timeline::Timeline,
    why::Why,
};
use crate::{
    clients::{Client, ClientTable},
    stats::Stats,
    terminal::Terminal,
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
    terminal: Terminal,
    last: Option<Instant>,
    reals: Reals,
    clients: ClientTable,
}

impl Screen {
    /// Opens a screen whose first lines are `header`.
    pub fn open(header: String) -> io::Result<Self> {
        Ok(Self {
            terminal: Terminal::open(header)?,
            last: None,
            reals: Reals::default(),
            clients: ClientTable::default(),
        })
    }

    /// Shows a picture. `label` returns the label of an address.
    pub fn show(&mut self, picture: &Picture, label: impl Fn(&str) -> Label) -> io::Result<()> {
        let now = Instant::now();
        let passed = self.last.replace(now).map(|last| now - last);
        let reals = self.reals.table(picture.stats, picture.whys, label, passed);
        let lines: Vec<&str> = picture.timeline.lines().collect();
        let clients = self.clients.table(picture.clients, passed);
        let text = format!("{reals}\n{LEGEND}\n\n{}\n\n{clients}", lines.join("\n"));
        self.terminal.show(now, &text)
    }
}
