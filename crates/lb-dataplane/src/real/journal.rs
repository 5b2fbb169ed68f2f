//! The list of changes made to this host, on disk before each is made.
//!
//! One process at a time holds a state folder; the lock ends with the process, however it ends. Whoever
//! takes the folder next finds what its predecessor left and undoes it first.
//!
//! None of the changes survives a restart of the machine, so the file is named after the boot, and nothing
//! waits for the disk: a killed process leaves its writes with the kernel, and what a power failure leaves of
//! the file is of another boot and is not read.

use std::{
    fs::{self, File},
    io::ErrorKind,
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
    /// In the order in which they were made.
    changes: Vec<Change>,
}

const VERSION: u32 = 1;

/// What the file's name begins with; the boot's number follows.
const PREFIX: &str = "changes-";

/// The open list. Dropping it gives up the lock and keeps the file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
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
        let path = folder.join(format!("{PREFIX}{}.json", boot()?));
        remove_others(folder, &path).with_context(|| {
            format!("removing lists of earlier boots from {}", folder.display())
        })?;
        let contents = Contents {
            version: VERSION,
            changes: Vec::new(),
        };
        let mut journal = Journal {
            path,
            contents,
            _lock: lock,
        };
        journal.read()?;
        Ok(journal)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let path = &self.path;
        let text = match fs::read_to_string(path) {
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
        self.contents.changes = found.changes;
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
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("removing {}", self.path.display()))
                }
                _ => Ok(()),
            };
        }
        self.write()
    }

    /// Replaces the file as a whole.
    fn write(&self) -> anyhow::Result<()> {
        let new = self.path.with_extension("new");
        let attempt = || -> anyhow::Result<()> {
            fs::write(&new, serde_json::to_vec_pretty(&self.contents)?)?;
            fs::rename(&new, &self.path)?;
            Ok(())
        };
        attempt().with_context(|| format!("writing {}", self.path.display()))
    }
}

/// Removes the lists of earlier boots (what they list is gone), and what was not written to its end.
fn remove_others(folder: &Path, own: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX)) && path != own {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
