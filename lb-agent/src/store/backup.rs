//! A copy of the intent as text, of a running agent or of a state directory, and back.
//!
//! Each line is a JSON object: first what the copy is of, then one VIP a line with its record as the database has it, last
//! the CRC-32 of all lines before. A copy that was cut off or changed is refused.

use std::path::Path;

use lb_model::{intent::Intent, vip::VipKey};
use serde::{Deserialize, Serialize};

use super::{IntentStore, SCHEMA, StoreError, record::VipRecord};

/// Name and version of the form.
const FORMAT: &str = "lb-agent backup 1";

/// Why a copy cannot be restored. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
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
    /// An agent of another version made it.
    #[error(
        "the backup has schema {found}, this agent knows {SCHEMA}; restore it with the agent that made it"
    )]
    Schema {
        /// Its schema.
        found: u64,
    },
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    schema: u64,
    /// The database's; see [`IntentStore::identity`].
    identity: u64,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    vip: VipKey,
    record: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    crc32: u32,
}

/// A copy that was read.
#[derive(Debug)]
pub struct Backup {
    identity: u64,
    revision: u64,
    /// The VIPs.
    pub intent: Intent,
}

/// Returns the lines of a copy, each ended.
#[must_use]
pub fn write(intent: &Intent, identity: u64, revision: u64) -> Vec<String> {
    let header = Header {
        format: FORMAT.to_owned(),
        schema: SCHEMA,
        identity,
        revision,
    };
    let vips = intent.vips().map(|vip| {
        text(&Line {
            vip: vip.address,
            record: VipRecord::json(vip),
        })
    });
    let mut lines: Vec<String> = std::iter::once(text(&header)).chain(vips).collect();
    let end = End {
        crc32: checksum(lines.iter().map(String::as_str)),
    };
    lines.push(text(&end));
    lines
}

/// A record as a line. Records have text as keys and no number that JSON lacks, so this cannot fail.
fn text(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

fn checksum<'a>(lines: impl Iterator<Item = &'a str>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    lines.for_each(|line| hasher.update(line.as_bytes()));
    hasher.finalize()
}

impl Backup {
    /// Reads a copy.
    ///
    /// # Errors
    /// [`BackupError`]: it is none, was changed, or is of another version.
    pub fn read(text: &str) -> Result<Self, BackupError> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let wrong = |line: usize| {
            move |cause: serde_json::Error| BackupError::Line {
                line,
                cause: cause.to_string(),
            }
        };
        let Some((first, rest)) = lines.split_first() else {
            return Err(BackupError::Checksum);
        };
        let header: Header = serde_json::from_str(first).map_err(wrong(1))?;
        if header.format != FORMAT {
            return Err(BackupError::Line {
                line: 1,
                cause: format!("the format is {:?}, not {FORMAT:?}", header.format),
            });
        }
        if header.schema != SCHEMA {
            return Err(BackupError::Schema {
                found: header.schema,
            });
        }
        let Some((last, records)) = rest.split_last() else {
            return Err(BackupError::Checksum);
        };
        let end: End = serde_json::from_str(last).map_err(|_| BackupError::Checksum)?;
        if end.crc32 != checksum(lines[..lines.len() - 1].iter().copied()) {
            return Err(BackupError::Checksum);
        }
        let mut vips = Vec::new();
        for (at, record) in records.iter().enumerate() {
            let line: Line = serde_json::from_str(record).map_err(wrong(at + 2))?;
            let stored: VipRecord = serde_json::from_value(line.record).map_err(wrong(at + 2))?;
            vips.push(stored.into_vip(line.vip, header.revision));
        }
        Ok(Backup {
            identity: header.identity,
            revision: header.revision,
            intent: vips.into_iter().collect(),
        })
    }

    /// Creates the database of a state directory, which must not have one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn create(&self, directory: &Path) -> Result<(), StoreError> {
        IntentStore::create(directory, self.identity, self.revision, &self.intent)
    }
}

#[cfg(test)]
mod tests {
    use lb_model::intent::{Owner, Real, Vip, VipSpec};

    use super::*;
    use crate::store::State;

    fn intent() -> Intent {
        let vips = ["10.0.0.1:80/tcp", "[2001:db8::1]:443/udp"].map(|name| {
            let real = std::net::IpAddr::from([10, 1, 0, 2]);
            Vip {
                revision: 7,
                reals: [(real.into(), Real::default())].into(),
                ..Vip::new(
                    name.parse().unwrap(),
                    "controller:web".parse::<Owner>().unwrap(),
                    VipSpec::default(),
                )
            }
        });
        vips.into_iter().collect()
    }

    #[test]
    fn a_copy_becomes_the_database_that_it_was_made_of() {
        let text = write(&intent(), 77, 7).concat();
        let backup = Backup::read(&text).unwrap();
        let directory = tempfile::tempdir().unwrap();
        backup.create(directory.path()).unwrap();
        let mut state = State::open(directory.path()).unwrap();
        assert_eq!(state.intent.load().unwrap(), intent());
        assert_eq!(
            (state.intent.identity(), state.intent.revision().0),
            (77, 7)
        );
        assert_eq!(state.intent.rewrite(&Intent::default()).unwrap().0, 8);
        // It is not written over another one.
        assert!(backup.create(directory.path()).is_err());
    }

    #[test]
    fn a_copy_that_was_changed_or_cut_off_is_refused() {
        let text = write(&intent(), 77, 7).concat();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (name, changed) in [
            ("empty", String::new()),
            ("cut off", lines[..2].concat()),
            ("in the middle of a line", text[..text.len() / 2].to_owned()),
            ("a line less", [lines[0], lines[2], lines[3]].concat()),
            (
                "another weight",
                text.replacen("\"weight\":100", "\"weight\":101", 1),
            ),
            (
                "another schema",
                text.replacen("\"schema\":3", "\"schema\":9", 1),
            ),
            ("no backup", "[[vip]]\n".to_owned()),
        ] {
            assert!(Backup::read(&changed).is_err(), "{name}");
        }
    }
}
