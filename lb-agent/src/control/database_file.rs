//! The database's file: whether it is still what this agent has written.
//!
//! The database keeps what it has read in memory, so changes to a file that was removed, truncated or replaced under a
//! running agent would be acknowledged and lost with the process. The owner looks before each change and each second. If
//! the file is damaged it writes all that it knows to a new one and ends.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::owner::Owner;
use crate::store::{Store, StoreError};

/// The file as the last transaction left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileMark {
    device: u64,
    inode: u64,
    length: u64,
}

/// What happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Removed,
    Replaced,
    Truncated,
}

impl FileMark {
    /// Of the file as it is now; `None` if it cannot be examined.
    pub(super) fn of(path: &Path) -> Option<FileMark> {
        let meta = fs::metadata(path).ok()?;
        Some(FileMark {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
        })
    }

    /// What has happened since.
    fn damage(self, path: &Path) -> Option<Damage> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Damage::Removed),
            // Nothing is known then.
            Err(_) => None,
            Ok(meta) if (meta.dev(), meta.ino()) != (self.device, self.inode) => {
                Some(Damage::Replaced)
            }
            Ok(meta) if meta.len() < self.length => Some(Damage::Truncated),
            Ok(_) => None,
        }
    }
}

impl Owner {
    /// Notes the file as a transaction has left it.
    pub(super) fn mark_database_file(&mut self) {
        self.file_mark = FileMark::of(self.store.path());
    }

    /// Returns whether the owner can go on. Otherwise it must end: the reason is told, and what it knows is saved.
    pub(super) fn database_file_is_intact(&mut self) -> bool {
        let path = self.store.path().to_owned();
        let Some(damage) = self.file_mark.and_then(|mark| mark.damage(&path)) else {
            return true;
        };
        let what = match damage {
            Damage::Removed => "was removed",
            Damage::Replaced => "was replaced by another file",
            Damage::Truncated => "was truncated",
        };
        let rescued = match self.rescue(&path, damage) {
            Ok(rescued) if rescued == path => {
                "all VIPs were written to a new one in its place".to_owned()
            }
            Ok(rescued) => format!(
                "all VIPs that this agent had were written to {}",
                rescued.display()
            ),
            Err(error) => format!("its VIPs could not be saved: {error}"),
        };
        let reason = format!(
            "the database {} {what} by somebody else under the running agent; {rescued}",
            path.display()
        );
        tracing::error!("{reason}");
        // It is set once.
        let _ = self.failure.set(reason);
        false
    }

    /// Writes all that is known to a new database. It takes the place of one that is gone or damaged; a file that somebody
    /// has put there stays.
    fn rescue(&mut self, path: &Path, damage: Damage) -> Result<PathBuf, StoreError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let folder = directory.join("rescued");
        let failed = |source| StoreError::Directory {
            path: folder.clone(),
            source,
        };
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut store = Store::open(&folder)?;
        store.set_identity(self.identity)?;
        let vips = self.intent.vips();
        store.commit(vips.map(|vip| (vip.address, Some(&**vip))))?;
        store.save_steered(&self.steered)?;
        let rescued = store.path().to_owned();
        drop(store);
        match damage {
            Damage::Replaced => Ok(rescued),
            Damage::Removed | Damage::Truncated => {
                fs::rename(&rescued, path).map_err(failed)?;
                // Nothing else is in it.
                let _ = fs::remove_dir(&folder);
                Ok(path.to_owned())
            }
        }
    }
}
