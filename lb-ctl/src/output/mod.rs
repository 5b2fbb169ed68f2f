//! Answers as tables for people, and as JSON or YAML for programs.
//!
//! Programs read the JSON form of these types: no field is ever removed.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

pub mod access;
pub mod capture;
pub mod command;
pub mod doctor;
pub mod drain;
pub mod environment;
pub mod event;
pub mod explanation;
pub mod flows;
pub mod history;
pub mod host;
pub mod http;
pub mod orphan;
pub mod plan;
pub mod plot;
pub mod pool;
pub mod project;
pub mod rates;
pub mod readings;
pub mod ring;
pub mod simulation;
pub mod stats;
pub mod status;
pub mod subnet;
pub mod table;
pub mod trace;
pub mod vip;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For people, with everything that is known
    Wide,
    /// One JSON document a line
    Json,
    /// YAML documents
    Yaml,
}

/// The form of an answer for people.
pub trait Human {
    /// Returns lines, each with its end.
    fn human(&self) -> String;
}

/// The output of answers.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Creates an output to standard output in a format.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Output { format }
    }

    /// Returns whether the format is for people.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Returns whether the format is the wide one.
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Returns whether people read it.
    #[must_use]
    pub fn is_human(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Prints the answer.
    ///
    /// # Errors
    /// Returns [`Failure::ClosedPipe`] if the reader has closed the pipe, [`Failure::File`] if writing fails.
    pub fn print<T: Serialize + Human>(self, answer: &T) -> Result<(), Failure> {
        write(&self.text(answer)?)
    }

    /// Prints one of many answers: a JSON line, a YAML document, or a line of a table.
    ///
    /// # Errors
    /// See [`Self::print`].
    pub fn print_item<T: Serialize + Human>(self, item: &T) -> Result<(), Failure> {
        let text = self.text(item)?;
        match self.format {
            Format::Yaml => write(&format!("---\n{text}")),
            Format::Table | Format::Wide | Format::Json => write(&text),
        }
    }

    /// Prints text for people that replaces the previous text. On a terminal it starts at the top of the screen; otherwise
    /// an empty line precedes it.
    ///
    /// # Errors
    /// See [`Self::print`].
    pub fn print_screen(self, text: &str) -> Result<(), Failure> {
        // Move to the top left corner, then clear everything below.
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
/// Returns [`Failure::ClosedPipe`] if the reader has closed the pipe, [`Failure::File`] if writing fails.
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

/// The answer of a verb that deletes something.
#[derive(Debug, Serialize)]
pub struct Done {
    /// The object that was deleted.
    pub deleted: String,
}

impl Human for Done {
    fn human(&self) -> String {
        format!("deleted {}\n", self.deleted)
    }
}
