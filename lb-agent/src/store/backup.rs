//! A copy of the intent as text, of a running agent or of a state directory, and back.
//!
//! It has the form of [`CopyForm`]: one VIP a line, with its record as the database has it.

use std::path::Path;

use lb_model::{intent::Intent, vip::VipKey};
use lb_store::{CopyError, CopyForm};
use serde::{Deserialize, Serialize};

use super::{IntentStore, SCHEMA, StoreError, record::VipRecord};

const FORM: CopyForm = CopyForm {
    program: "agent",
    format: "lb-agent backup 1",
    schema: SCHEMA,
};

/// Why a copy cannot be restored. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is none, was changed, or is of another version.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
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
    let header = Header { identity, revision };
    let vips = intent.vips().map(|vip| Line {
        vip: vip.address,
        record: VipRecord::json(vip),
    });
    FORM.write(&header, vips)
}

impl Backup {
    /// Reads a copy.
    ///
    /// # Errors
    /// [`BackupError`]: it is none, was changed, or is of another version.
    pub fn read(text: &str) -> Result<Self, BackupError> {
        let (header, lines): (Header, Vec<Line>) = FORM.read(text)?;
        let mut vips = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            let stored: VipRecord = serde_json::from_value(line.record)
                .map_err(|error| CopyError::record(at, error))?;
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
