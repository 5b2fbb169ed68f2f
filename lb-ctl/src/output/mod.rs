//! Answers as tables for people, and as JSON or YAML for programs.
//!
//! The types here are the shapes that programs see: a field once printed stays.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

pub mod drain;
pub mod event;
pub mod explanation;
pub mod flows;
pub mod rates;
pub mod readings;
pub mod ring;
pub mod simulation;
pub mod stats;
pub mod status;
pub mod table;
pub mod vip;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For people, with all there is to tell
    Wide,
    /// One JSON document a line
    Json,
    /// YAML documents
    Yaml,
}

/// How an answer is told to people.
pub trait Human {
    /// Lines, the last one ended.
    fn human(&self) -> String;
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Standard output in a format.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Output { format }
    }

    /// Whether people read it.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether people want all there is to tell.
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Prints the answer.
    ///
    /// # Errors
    /// [`Failure::ClosedPipe`] if nobody reads it, [`Failure::File`] if it cannot be written.
    pub fn print<T: Serialize + Human>(self, answer: &T) -> Result<(), Failure> {
        write(&self.text(answer)?)
    }

    /// Prints one of many answers: a JSON line, a YAML document, or a table's line.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub fn print_item<T: Serialize + Human>(self, item: &T) -> Result<(), Failure> {
        let text = self.text(item)?;
        match self.format {
            Format::Yaml => write(&format!("---\n{text}")),
            Format::Table | Format::Wide | Format::Json => write(&text),
        }
    }

    /// Prints text for people where it replaces what was on the screen: on a terminal it starts at the
    /// top, elsewhere an empty line comes before it.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub fn print_screen(self, text: &str) -> Result<(), Failure> {
        // Home, then clear what is below.
        let start = if io::stdout().is_terminal() {
            "\x1b[H\x1b[J"
        } else {
            "\n"
        };
        write(&format!("{start}{text}"))
    }

    fn text<T: Serialize + Human>(self, answer: &T) -> Result<String, Failure> {
        let wrong = |error: io::Error| Failure::File {
            attempt: "print the answer".to_owned(),
            error,
        };
        match self.format {
            Format::Table | Format::Wide => Ok(answer.human()),
            Format::Json => serde_json::to_string(answer)
                .map(|text| text + "\n")
                .map_err(|error| wrong(error.into())),
            Format::Yaml => {
                serde_yaml_ng::to_string(answer).map_err(|error| wrong(io::Error::other(error)))
            }
        }
    }
}

/// Writes text to standard output.
///
/// # Errors
/// [`Failure::ClosedPipe`] if nobody reads it, [`Failure::File`] if it cannot be written.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::ClosedPipe
            } else {
                Failure::File {
                    attempt: "write to standard output".to_owned(),
                    error,
                }
            }
        })
}

/// What a verb did, for verbs whose only answer is that it is done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// What was deleted.
    pub deleted: String,
}

impl Human for Done {
    fn human(&self) -> String {
        format!("deleted {}\n", self.deleted)
    }
}
