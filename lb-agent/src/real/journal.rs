//! The list of changes made to this host, on disk before each is made.
//!
//! One process at a time holds a state folder; the lock ends with the process, however it ends. Whoever
//! takes the folder next finds what its predecessor left and undoes it first.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Something that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Change {
    /// A number below `/proc/sys/net/ipv4/conf`.
    Setting {
        /// `all` or an interface.
        interface: String,
        /// The file's name.
        name: String,
        /// What it was.
        old: u32,
        /// What it was set to.
        new: u32,
    },
    /// An address was put on the loopback interface.
    Address {
        /// Which one.
        address: IpAddr,
    },
    /// The loopback interface was brought up.
    LoopbackUp,
    /// A tc program was attached in a way that outlives this process (before Linux 6.6).
    Filter {
        /// The interface.
        interface: String,
    },
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// Format of this file.
    version: u32,
    /// The boot in which the changes were made: none of them survives the next one.
    boot: String,
    /// In the order in which they were made.
    changes: Vec<Change>,
}

const VERSION: u32 = 1;
const FILE: &str = "real.json";

/// The open list. Dropping it gives up the lock and keeps the file.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    contents: Contents,
    _lock: File,
}

impl Journal {
    /// Takes a state folder, and what its last holder left undone (in the order in which it was made).
    ///
    /// # Errors
    /// If another process holds it, or it cannot be used.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Journal> {
        fs::create_dir_all(folder)
            .with_context(|| format!("making the state folder {}", folder.display()))?;
        let path = folder.join("real.lock");
        let lock = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => bail!(
                "another `lb-agent real` runs with the state folder {}: give it all VIPs and interfaces, or end it first",
                folder.display()
            ),
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        let boot = boot()?;
        let contents = Contents {
            version: VERSION,
            boot,
            changes: Vec::new(),
        };
        let mut journal = Journal {
            folder: folder.to_owned(),
            contents,
            _lock: lock,
        };
        journal.read()?;
        Ok(journal)
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let found: Contents = serde_json::from_str(&text).with_context(|| {
            format!(
                "reading {}: not written by this version; undo what it lists by hand and remove it",
                path.display()
            )
        })?;
        if found.version != VERSION {
            bail!(
                "{} has version {}, this program knows {VERSION}: run the version that wrote it once, or undo what it \
                 lists by hand and remove it",
                path.display(),
                found.version
            );
        }
        if found.boot == self.contents.boot {
            self.contents.changes = found.changes;
        }
        Ok(())
    }

    /// What is not undone yet, in the order in which it was made.
    pub(super) fn changes(&self) -> &[Change] {
        &self.contents.changes
    }

    /// Writes a change down; to be called before it is made.
    pub(super) fn record(&mut self, change: Change) -> anyhow::Result<()> {
        self.contents.changes.push(change);
        self.write()
    }

    /// Strikes the change at this place out: it is undone.
    pub(super) fn strike(&mut self, at: usize) -> anyhow::Result<()> {
        self.contents.changes.remove(at);
        if self.contents.changes.is_empty() {
            let path = self.path();
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("removing {}", path.display()))
                }
                _ => Ok(()),
            };
        }
        self.write()
    }

    /// Replaces the file as a whole.
    fn write(&self) -> anyhow::Result<()> {
        let (path, new) = (self.path(), self.folder.join("real.json.new"));
        let attempt = || -> anyhow::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&self.contents)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            Ok(())
        };
        attempt().with_context(|| format!("writing {}", path.display()))
    }
}

fn boot() -> anyhow::Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(PATH)
        .with_context(|| format!("reading {PATH}"))?
        .trim()
        .to_owned())
}

/// The folder of this network namespace: several reals on one machine do not meet.
pub(super) fn default_folder() -> anyhow::Result<PathBuf> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    let inode = fs::metadata(NAMESPACE)
        .with_context(|| format!("looking at {NAMESPACE}"))?
        .ino();
    Ok(PathBuf::from(format!("/run/lb-agent/real-{inode}")))
}
