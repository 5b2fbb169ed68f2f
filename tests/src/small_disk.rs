//! A small file system in the place of a folder.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd as _,
        unix::{fs::FileExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use anyhow::{Context as _, anyhow};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// Bytes of a block.
const BLOCK: usize = 4_096;

/// A file system in memory, of a fixed size, in the place of a folder. It is mounted in a mount namespace of its own: only
/// programs that are started in it, and what runs in [`SmallDisk::enter`], see it. The kernel removes it once the last clone
/// is dropped and the last program in it has ended.
#[derive(Clone, Debug)]
pub struct SmallDisk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mounts: File,
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts a file system of this size (as in `16m`) in the place of a folder, with copies of the folder's files. Blocks of a
    /// file that are empty take no room.
    ///
    /// # Errors
    /// Fails without root, or if the folder's files do not fit.
    pub fn new(folder: &Path, size: &str) -> anyhow::Result<Self> {
        let place = folder.to_owned();
        let options = format!("size={size}");
        let made = thread::spawn(move || -> anyhow::Result<File> {
            let files = read_files(&place)?;
            unshare(CloneFlags::CLONE_NEWNS)?;
            // What is mounted from here on stays here.
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            let source = Some("lb-small-disk");
            let kind = Some("tmpfs");
            mount(source, &place, kind, MsFlags::empty(), Some(&*options))?;
            for (path, content) in files {
                write_with_holes(&path, &content)?;
            }
            Ok(File::open("/proc/thread-self/ns/mnt")?)
        });
        let mounts = made
            .join()
            .map_err(|_| anyhow!("the thread that makes a small disk panicked"))?
            .with_context(|| format!("making a small disk at {}", folder.display()))?;
        Ok(SmallDisk(Arc::new(Inner {
            mounts,
            folder: folder.to_owned(),
        })))
    }

    /// Has a program see the disk.
    pub(crate) fn show(&self, command: &mut Command) {
        let disk = self.clone();
        // SAFETY: setns is a plain system call, safe between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setns(disk.0.mounts.as_fd(), CloneFlags::CLONE_NEWNS)?));
        }
    }

    /// Runs `work` on a thread of its own that sees the disk, and returns its result. A panic of `work` continues on the
    /// calling thread.
    ///
    /// # Errors
    /// Fails if the disk's mount namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // A thread that shares its root folder with others cannot move to other mounts.
                unshare(CloneFlags::CLONE_FS)?;
                setns(self.0.mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Makes the file system read-only, or writable again.
    ///
    /// # Errors
    /// Fails while a file is open for writing.
    pub fn set_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        let mut flags = MsFlags::MS_REMOUNT;
        flags.set(MsFlags::MS_RDONLY, read_only);
        let folder = &self.0.folder;
        self.enter(|| mount(None::<&str>, folder, None::<&str>, flags, None::<&str>))?
            .with_context(|| format!("mounting {} again", folder.display()))
    }
}

fn read_files(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let content = fs::read(&path)?;
        files.push((path, content));
    }
    Ok(files)
}

/// Writes a file without its empty blocks: a database has many of them, and could take many changes before it needs more
/// room.
fn write_with_holes(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let file = File::create(path)?;
    file.set_len(content.len() as u64)?;
    for (number, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (number * BLOCK) as u64)?;
        }
    }
    Ok(())
}
