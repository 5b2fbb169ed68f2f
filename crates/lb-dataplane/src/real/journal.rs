//! The list of changes made to this host, on disk before each is made.
//!
//! One process at a time holds a state folder; the lock ends with the process, however it ends. The next
//! process that takes the folder undoes first what its predecessor left.
//!
//! No change survives a restart of the machine, so the file is named after the boot, and no write waits for
//! the disk: the writes of a killed process are with the kernel, and a file that a power failure damaged
//! belongs to another boot and is not read.

use std::{
    fs::{self, File},
    io::ErrorKind,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// A change of this host.
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
    /// A number below `/proc/sys/net/ipv4`, which concerns the whole host.
    HostSetting {
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

/// The file's name begins with this and goes on with the boot's id.
const PREFIX: &str = "changes-";

/// The open list. Dropping it gives up the lock and keeps the file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    contents: Contents,
    _lock: File,
}

impl Journal {
    /// Takes a state folder, with the changes that its last holder did not undo.
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
        let contents: Contents = serde_json::from_str(&text).with_context(|| {
            format!(
                "reading {}: this version did not write it; undo the changes it lists by hand and remove it",
                path.display()
            )
        })?;
        if contents.version != VERSION {
            bail!(
                "{} has version {}, and this program reads version {VERSION}: run the version that wrote it once, or undo \
                 the changes it lists by hand and remove it",
                path.display(),
                contents.version
            );
        }
        self.contents.changes = contents.changes;
        Ok(())
    }

    /// The changes that are not undone yet, in the order in which they were made.
    pub(super) fn changes(&self) -> &[Change] {
        &self.contents.changes
    }

    /// Writes a change down; to be called before it is made.
    pub(super) fn record(&mut self, change: Change) -> anyhow::Result<()> {
        self.contents.changes.push(change);
        self.write()
    }

    /// Removes the change at this position: it is undone.
    pub(super) fn remove(&mut self, at: usize) -> anyhow::Result<()> {
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

/// Removes the lists of earlier boots, whose changes are gone, and files that were not written completely.
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

/// The folder of this network namespace, so that several reals on one machine do not collide.
pub(super) fn default_folder() -> anyhow::Result<PathBuf> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    let inode = fs::metadata(NAMESPACE)
        .with_context(|| format!("looking at {NAMESPACE}"))?
        .ino();
    Ok(PathBuf::from(format!("/run/lb-agent/real-{inode}")))
}
