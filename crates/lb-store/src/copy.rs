//! The form of a copy of a store as text.
//!
//! Each line is a JSON object: first what the copy is of, then one record a line, last the CRC-32 of all lines before. A copy
//! that was cut off or changed is refused.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What a program's copies are.
#[derive(Clone, Copy, Debug)]
pub struct CopyForm {
    /// What the program is called: `agent`.
    pub program: &'static str,
    /// Name and version of the form.
    pub format: &'static str,
    /// Version of the records.
    pub schema: u64,
}

/// Why a text is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A line is wrong.
    #[error("line {line}: {cause}; the file is no backup, or was changed")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// It ends too early, or was changed.
    #[error("the file is cut off or was changed: its last line is not the checksum of the others")]
    Checksum,
    /// A program of another version made it.
    #[error(
        "the backup has schema {found}, this {program} knows {known}; restore it with the {program} that made it",
        program = form.program, known = form.schema
    )]
    Schema {
        /// Its schema.
        found: u64,
        /// What was expected.
        form: CopyForm,
    },
}

#[derive(Serialize)]
struct Header<'a, H> {
    format: &'static str,
    schema: u64,
    #[serde(flatten)]
    more: &'a H,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    crc32: u32,
}

/// A record as a line. Records have text as keys and no number that JSON lacks, so this cannot fail.
fn line(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

fn checksum<'a>(lines: impl Iterator<Item = &'a str>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    lines.for_each(|line| hasher.update(line.as_bytes()));
    hasher.finalize()
}

impl CopyForm {
    /// Returns the lines of a copy, each ended. `more` is what its first line says besides form and schema.
    #[must_use]
    pub fn write<H: Serialize, R: Serialize>(
        &self,
        more: &H,
        records: impl Iterator<Item = R>,
    ) -> Vec<String> {
        let header = Header {
            format: self.format,
            schema: self.schema,
            more,
        };
        let mut lines: Vec<String> = std::iter::once(line(&header))
            .chain(records.map(|record| line(&record)))
            .collect();
        let crc32 = checksum(lines.iter().map(String::as_str));
        lines.push(line(&End { crc32 }));
        lines
    }

    /// Reads a copy: what its first line says besides form and schema, and its records.
    ///
    /// # Errors
    /// [`CopyError`]: it is none, was changed, or is of another version.
    pub fn read<H: DeserializeOwned, R: DeserializeOwned>(
        &self,
        text: &str,
    ) -> Result<(H, Vec<R>), CopyError> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let Some((first, rest)) = lines.split_first() else {
            return Err(CopyError::Checksum);
        };
        let wrong = |cause: String| CopyError::Line { line: 1, cause };
        let unread = |error: serde_json::Error| wrong(error.to_string());
        let mut header: Map<String, Value> = serde_json::from_str(first).map_err(unread)?;
        let format = header.remove("format").unwrap_or_default();
        if format != self.format {
            return Err(wrong(format!(
                "the format is {format}, not {:?}",
                self.format
            )));
        }
        let schema = header.remove("schema").and_then(|value| value.as_u64());
        let schema = schema.ok_or_else(|| wrong("there is no schema".to_owned()))?;
        if schema != self.schema {
            return Err(CopyError::Schema {
                found: schema,
                form: *self,
            });
        }
        let more = serde_json::from_value(header.into()).map_err(unread)?;
        let (last, records) = rest.split_last().ok_or(CopyError::Checksum)?;
        let end: End = serde_json::from_str(last).map_err(|_| CopyError::Checksum)?;
        if end.crc32 != checksum(lines[..lines.len() - 1].iter().copied()) {
            return Err(CopyError::Checksum);
        }
        let read = |(at, text): (usize, &&str)| {
            serde_json::from_str(text).map_err(|error| CopyError::record(at, error))
        };
        let records = records.iter().enumerate().map(read);
        Ok((more, records.collect::<Result<_, _>>()?))
    }
}

impl CopyError {
    /// What is wrong with a record, counted from 0.
    #[must_use]
    pub fn record(at: usize, cause: impl std::fmt::Display) -> Self {
        CopyError::Line {
            line: at + 2,
            cause: cause.to_string(),
        }
    }
}
