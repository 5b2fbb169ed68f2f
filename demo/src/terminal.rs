//! The place of the pictures: a terminal, or a stream of text.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use crossterm::{
    cursor::MoveTo,
    queue,
    style::Print,
    terminal::{self, Clear, ClearType},
};

/// Shows texts: on a terminal each in place of the last one, otherwise below it.
pub struct Terminal {
    is_terminal: bool,
    header: String,
    begin: Instant,
}

impl Terminal {
    /// Clears the terminal, or prints the header if the output is no terminal. `header` is the first lines of each picture.
    pub fn open(header: String) -> io::Result<Self> {
        let terminal = Self {
            is_terminal: io::stdout().is_terminal(),
            header,
            begin: Instant::now(),
        };
        let mut out = io::stdout().lock();
        if terminal.is_terminal {
            queue!(out, Clear(ClearType::All))?;
        } else {
            writeln!(out, "{}", terminal.header)?;
        }
        out.flush()?;
        Ok(terminal)
    }

    /// Shows a text below the time.
    pub fn show(&self, now: Instant, text: &str) -> io::Result<()> {
        let text = format!(
            "{} s; Ctrl-C ends the demonstration and removes everything\n\n{text}",
            (now - self.begin).as_secs()
        );
        let mut out = io::stdout().lock();
        if !self.is_terminal {
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
}
