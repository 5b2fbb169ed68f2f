//! The folder on the BPF file system that keeps forwarding alive without an agent.
//!
//! ```text
//! PINS/balancer            the program of the first interface
//! PINS/links/IFACE         the attachment to each interface
//! PINS/maps-GENERATION/*   the tables
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::bpf;
use crate::error::{DataplaneError, system};

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
}

const LINKS: &str = "links";
const PROGRAM: &str = "balancer";
/// A BPF file system allows no dot in a name.
const NEW_PROGRAM: &str = "balancer-new";
/// Replaces a dot in an interface's name; the kernel allows no `%` there.
const DOT: &str = "%2E";
const MAPS: &str = "maps-";
/// How long to wait for the folder before another process is said to use it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two attempts.
const LOCK_RETRY: Duration = Duration::from_millis(10);

impl Pins {
    pub fn new(root: &Path) -> Pins {
        Pins {
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn program(&self) -> PathBuf {
        self.root.join(PROGRAM)
    }

    pub fn link(&self, interface: &str) -> PathBuf {
        self.root.join(LINKS).join(interface.replace('.', DOT))
    }

    pub fn maps(&self, generation: u32) -> PathBuf {
        self.root.join(format!("{MAPS}{generation}"))
    }

    /// Makes the folders.
    pub fn create(&self) -> Result<(), DataplaneError> {
        let links = self.root.join(LINKS);
        fs::create_dir_all(&links).map_err(system(format!(
            "making the folder {} (it must lie on a BPF file system: mount -t bpf bpf /sys/fs/bpf)",
            links.display()
        )))?;
        if !is_bpf_fs(&self.root)? {
            // An empty folder on a disk is not left behind.
            let _ = fs::remove_dir(&links);
            let _ = fs::remove_dir(&self.root);
            return Err(system(format!("using {} for pins", self.root.display()))(
                "it is not on a BPF file system; mount one there (mount -t bpf bpf /sys/fs/bpf) or choose another folder \
                 with --pins",
            ));
        }
        Ok(())
    }

    /// Takes the folder for this process until the returned file is closed, so that no other agent and no
    /// migration changes the tables.
    ///
    /// # Errors
    /// [`DataplaneError::System`] if another process keeps it.
    pub fn lock(&self) -> Result<File, DataplaneError> {
        self.lock_within(LOCK_PATIENCE)
    }

    /// As [`Pins::lock`], with a patience of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn lock_within(&self, patience: Duration) -> Result<File, DataplaneError> {
        let operation = || format!("taking the folder of pins {}", self.root.display());
        let mut folder = File::open(&self.root).map_err(system(operation()))?;
        let give_up = Instant::now() + patience;
        loop {
            match folder.try_lock() {
                Ok(()) if self.is_locked_by(&folder) => return Ok(folder),
                // Its last holder has removed it; there may be a new one of this name.
                Ok(()) => folder = File::open(&self.root).map_err(system(operation()))?,
                // A process that is being started holds every open file of its parent for a moment.
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(system(operation())(
                        "an agent that runs uses it: stop that agent first (packets flow on without it), or choose \
                         another folder with --pins",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(system(operation())(error)),
            }
        }
    }

    /// Whether this open folder is the one that has the name now.
    pub fn is_locked_by(&self, folder: &File) -> bool {
        let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
        match (folder.metadata(), fs::metadata(&self.root)) {
            (Ok(held), Ok(named)) => of(held) == of(named),
            _ => false,
        }
    }

    /// The folder of the attachments.
    pub fn links(&self) -> PathBuf {
        self.root.join(LINKS)
    }

    /// Names of the interfaces with a pinned link.
    pub fn linked(&self) -> Result<Vec<String>, DataplaneError> {
        let mut names: Vec<_> = list(&self.root.join(LINKS))?
            .iter()
            .map(|name| name.replace(DOT, "."))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Generations whose folder exists.
    pub fn generations(&self) -> Result<Vec<u32>, DataplaneError> {
        let names = list(&self.root)?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_prefix(MAPS)?.parse().ok())
            .collect())
    }

    /// A generation without a folder, later than all others.
    pub fn next_generation(&self) -> Result<u32, DataplaneError> {
        Ok(self.generations()?.into_iter().max().unwrap_or(0) + 1)
    }

    /// Removes the tables' folders of every generation but this one. The maps live on while a program uses them.
    pub fn remove_maps_but(&self, keep: Option<u32>) -> Result<(), DataplaneError> {
        for generation in self.generations()? {
            if Some(generation) != keep {
                remove_all(&self.maps(generation))?;
            }
        }
        Ok(())
    }

    /// Detaches from an interface and removes the pin.
    pub fn remove_link(&self, interface: &str) -> Result<(), DataplaneError> {
        let path = self.link(interface);
        match bpf::detach_pinned_link(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Removing its pin ends it as well, a moment later.
            Err(error) => tracing::debug!("detaching {}: {error}", path.display()),
        }
        remove_file(&path)
    }

    /// Removes every pin, links first: from then on packets go to the host's stack.
    pub fn remove(&self) -> Result<(), DataplaneError> {
        for name in self.linked()? {
            self.remove_link(&name)?;
        }
        for file in [PROGRAM, NEW_PROGRAM] {
            remove_file(&self.root.join(file))?;
        }
        self.remove_maps_but(None)?;
        for folder in [self.root.join(LINKS), self.root.clone()] {
            match fs::remove_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Another program's file is in it.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(system(format!("removing {}", folder.display()))(error)),
            }
        }
        Ok(())
    }

    /// Where a new program is pinned before it replaces the old one.
    pub fn new_program(&self) -> PathBuf {
        self.root.join(NEW_PROGRAM)
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(system(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Removes a folder of pins, if it is there.
pub(crate) fn remove_all(folder: &Path) -> Result<(), DataplaneError> {
    for name in list(folder)? {
        remove_file(&folder.join(name))?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(system(format!("removing {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<String>, DataplaneError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(system(format!("listing {}", folder.display()))(error)),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(system(format!("listing {}", folder.display())))
}

fn is_bpf_fs(path: &Path) -> Result<bool, DataplaneError> {
    let stat =
        nix::sys::statfs::statfs(path).map_err(system(format!("examining {}", path.display())))?;
    Ok(stat.filesystem_type() == nix::sys::statfs::FsType(libc::BPF_FS_MAGIC as _))
}
