//! Control groups of instances: one for each, in every hierarchy that this machine has.
//!
//! A machine has one hierarchy of version 2, or one per controller of version 1, or both: then limits are those of
//! version 1, and freezing and killing are those of version 2, which are atomic.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Period of CPU quotas in microseconds, the kernel's default.
const PERIOD: u64 = 100_000;
/// The least quota that the kernel takes.
const LEAST_QUOTA: u64 = 1_000;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long the kernel may take to end or to freeze processes, in which it has nothing to wait for but disks.
const PATIENCE: Duration = Duration::from_secs(20);
/// The controllers whose limits are used.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The limits of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Cores.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// A hierarchy that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    is_v2: bool,
    /// Those of [`CONTROLLERS`] that it has, and `freezer` where there is no version 2.
    controllers: Vec<String>,
    root: PathBuf,
}

/// The groups of one owner.
#[derive(Clone, Debug)]
pub struct Tree {
    hierarchies: Vec<Hierarchy>,
    parent: String,
}

impl Tree {
    /// Finds the hierarchies of this machine, for the groups of one owner's driver.
    ///
    /// # Errors
    /// There are none that can be written.
    pub fn open(driver: &str, owner: &str) -> io::Result<Self> {
        let tree = Tree {
            hierarchies: hierarchies(&fs::read_to_string(MOUNTINFO)?),
            parent: format!("lb-{driver}-{owner}"),
        };
        if tree.hierarchies.is_empty() {
            return Err(io::Error::new(
                ErrorKind::NotFound,
                "no control groups are mounted; mount cgroup2 at /sys/fs/cgroup",
            ));
        }
        for hierarchy in &tree.hierarchies {
            let folder = hierarchy.root.join(&tree.parent);
            if hierarchy.is_v2 {
                enable(&hierarchy.root, &hierarchy.controllers);
            }
            fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
            if hierarchy.is_v2 {
                enable(&folder, &hierarchy.controllers);
            }
        }
        Ok(tree)
    }

    /// Whether CPU and memory can be limited.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        ["cpu", "memory"].iter().all(|controller| {
            self.hierarchies
                .iter()
                .any(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
        })
    }

    /// Whether groups can be frozen.
    #[must_use]
    pub fn can_freeze(&self) -> bool {
        self.hierarchies
            .iter()
            .any(|one| one.is_v2 || one.controllers.iter().any(|name| name == "freezer"))
    }

    /// The names of all groups of the owner.
    ///
    /// # Errors
    /// A hierarchy cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.root.join(&self.parent);
            for entry in fs::read_dir(&folder).map_err(|error| at(&folder, &error))? {
                let entry = entry?;
                if entry.file_type()?.is_dir()
                    && let Ok(name) = entry.file_name().into_string()
                {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The group of this name, which may not exist.
    #[must_use]
    pub fn group(&self, name: &str) -> Group {
        let folder = |hierarchy: &Hierarchy| Folder {
            is_v2: hierarchy.is_v2,
            controllers: hierarchy.controllers.clone(),
            path: hierarchy.root.join(&self.parent).join(name),
        };
        Group {
            path: format!("/{}/{name}", self.parent),
            folders: self.hierarchies.iter().map(folder).collect(),
        }
    }

    /// Removes the owner's folders if they are empty.
    pub fn remove_if_empty(&self) {
        for hierarchy in &self.hierarchies {
            // One with groups in it stays.
            let _ = fs::remove_dir(hierarchy.root.join(&self.parent));
        }
    }
}

/// The group's folder in one hierarchy.
#[derive(Clone, Debug)]
struct Folder {
    is_v2: bool,
    controllers: Vec<String>,
    path: PathBuf,
}

impl Folder {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The control group of an instance.
#[derive(Clone, Debug)]
pub struct Group {
    path: String,
    folders: Vec<Folder>,
}

impl Group {
    /// Its path, as `/proc/PID/cgroup` shows it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Makes it in every hierarchy.
    ///
    /// # Errors
    /// Without the right to do so.
    pub fn create(&self) -> io::Result<()> {
        for folder in &self.folders {
            fs::create_dir_all(&folder.path).map_err(|error| at(&folder.path, &error))?;
        }
        Ok(())
    }

    /// Sets its limits, where the machine has the controllers.
    ///
    /// # Errors
    /// The kernel refuses a limit.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let (Some(cores), Some(folder)) = (limits.cpu, self.holder("cpu")) {
            // Limits are at most 1024 cores.
            let quota = ((cores * PERIOD as f64) as u64).max(LEAST_QUOTA);
            if folder.is_v2 {
                write(&folder.path.join("cpu.max"), &format!("{quota} {PERIOD}"))?;
            } else {
                write(&folder.path.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                write(&folder.path.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
        }
        if let (Some(bytes), Some(folder)) = (limits.memory, self.holder("memory")) {
            let name = if folder.is_v2 {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            write(&folder.path.join(name), &bytes.to_string())?;
            if folder.is_v2 {
                // What needs more memory is to be killed, all of it, and not to swap.
                let _ = write(&folder.path.join("memory.swap.max"), "0");
                let _ = write(&folder.path.join("memory.oom.group"), "1");
            }
        }
        if let (Some(processes), Some(folder)) = (limits.processes, self.holder("pids")) {
            write(&folder.path.join("pids.max"), &processes.to_string())?;
        }
        Ok(())
    }

    /// Opens the files that a process writes `0` to in order to become a member.
    ///
    /// # Errors
    /// The group does not exist.
    pub fn members(&self) -> io::Result<Vec<File>> {
        self.folders
            .iter()
            .map(|folder| {
                let path = folder.path.join("cgroup.procs");
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(|error| at(&path, &error))
            })
            .collect()
    }

    /// Its processes, zombies included. A group that does not exist has none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let Some(folder) = self.judge() else {
            return Ok(Vec::new());
        };
        let mut processes = Vec::new();
        let mut folders = vec![folder.path.clone()];
        while let Some(folder) = folders.pop() {
            let members = match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(members) => members,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(at(&folder, &error)),
            };
            processes.extend(members.lines().filter_map(|line| line.parse::<u32>().ok()));
            folders.extend(children(&folder));
        }
        Ok(processes)
    }

    /// Whether a process lives in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        match self.judge() {
            Some(folder) if folder.is_v2 => {
                Ok(event(&folder.path, "populated")?.unwrap_or_default() > 0)
            }
            _ => Ok(self.processes()?.into_iter().any(is_alive)),
        }
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        let Some(folder) = self.judge() else {
            return Ok(false);
        };
        if folder.is_v2 {
            return Ok(event(&folder.path, "frozen")?.unwrap_or_default() > 0);
        }
        match fs::read_to_string(folder.path.join("freezer.state")) {
            Ok(state) => Ok(state.trim() == "FROZEN"),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Freezes or thaws it, and waits until that is done.
    ///
    /// # Errors
    /// There is no such group, or the kernel does not do it.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        let folder = self
            .judge()
            .ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        if folder.is_v2 {
            write(
                &folder.path.join("cgroup.freeze"),
                if frozen { "1" } else { "0" },
            )?;
        } else {
            write(
                &folder.path.join("freezer.state"),
                if frozen { "FROZEN" } else { "THAWED" },
            )?;
        }
        wait(|| Ok(self.is_frozen()? == frozen))
    }

    /// Kills all processes in it, and waits until none lives.
    ///
    /// # Errors
    /// The kernel does not do it.
    pub fn kill(&self) -> io::Result<()> {
        let Some(folder) = self.judge() else {
            return Ok(());
        };
        let at_once = folder.is_v2
            && match write(&folder.path.join("cgroup.kill"), "1") {
                Ok(()) => true,
                Err(error) if is_gone(&error) => !folder.path.exists(),
                Err(error) => return Err(error),
            };
        wait(|| {
            if !at_once {
                for pid in self.processes()? {
                    kill(pid, Signal::SIGKILL);
                }
                if !folder.is_v2 && self.is_frozen()? {
                    // A frozen process of version 1 does not die.
                    self.freeze(false)?;
                }
            }
            Ok(!self.is_populated()?)
        })
    }

    /// How many processes were killed for want of memory.
    #[must_use]
    pub fn out_of_memory(&self) -> u64 {
        let Some(folder) = self.holder("memory") else {
            return 0;
        };
        let name = if folder.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        keyed(&folder.path.join(name), "oom_kill")
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    /// Removes it and the groups in it; it has no process any more.
    ///
    /// # Errors
    /// A process lives in it.
    pub fn remove(&self) -> io::Result<()> {
        for folder in &self.folders {
            wait(|| match remove_tree(&folder.path) {
                Ok(()) => Ok(true),
                // A process that has ended is a member until its parent has seen that.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
                Err(error) => Err(at(&folder.path, &error)),
            })?;
        }
        Ok(())
    }

    /// The folder that tells which processes there are; `None` if the group does not exist.
    fn judge(&self) -> Option<&Folder> {
        let mut existing = self.folders.iter().filter(|folder| folder.path.is_dir());
        let first = existing.clone().next();
        existing
            .find(|folder| folder.is_v2)
            .or_else(|| {
                self.folders
                    .iter()
                    .find(|f| f.has("freezer") && f.path.is_dir())
            })
            .or(first)
    }

    fn holder(&self, controller: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.has(controller))
    }
}

/// The hierarchies to use. A controller of version 1 is not in version 2.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut first = Vec::new();
    let mut second: Option<Hierarchy> = None;
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let fields: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        let (Some(point), Some(kind), Some(options)) = (fields.get(4), after.next(), after.nth(1))
        else {
            continue;
        };
        // A mount that is read-only, or shows only a part of its hierarchy, is of no use.
        if fields.get(3) != Some(&"/")
            || fields
                .get(5)
                .is_some_and(|options| options.split(',').any(|option| option == "ro"))
        {
            continue;
        }
        let root = PathBuf::from(*point);
        let controllers: Vec<String> = options.split(',').map(str::to_owned).collect();
        match kind {
            "cgroup2" if second.is_none() => {
                let text = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
                let has = |name: &&str| text.split_whitespace().any(|one| one == *name);
                second = Some(Hierarchy {
                    is_v2: true,
                    controllers: CONTROLLERS
                        .iter()
                        .copied()
                        .filter(has)
                        .map(str::to_owned)
                        .collect(),
                    root,
                });
            }
            "cgroup" => first.push(Hierarchy {
                is_v2: false,
                controllers,
                root,
            }),
            _ => {}
        }
    }
    let has_second = second.is_some();
    let mut chosen: Vec<Hierarchy> = Vec::new();
    for mut hierarchy in first {
        hierarchy.controllers.retain(|name| {
            CONTROLLERS.contains(&name.as_str())
                // Counts the processor time that an instance uses.
                || name == "cpuacct"
                || (name == "freezer" && !has_second)
        });
        // The same hierarchy may be mounted twice.
        let is_known = chosen
            .iter()
            .any(|other| other.controllers == hierarchy.controllers);
        if !hierarchy.controllers.is_empty() && !is_known {
            chosen.push(hierarchy);
        }
    }
    chosen.extend(second);
    chosen
}

/// Gives the groups in a folder of version 2 these controllers. What cannot be enabled is no limit.
fn enable(folder: &Path, controllers: &[String]) {
    for controller in controllers {
        let path = folder.join("cgroup.subtree_control");
        if let Err(error) = write(&path, &format!("+{controller}")) {
            tracing::warn!("limits of {controller} have no effect: {error}");
        }
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// An entry of `cgroup.events`; `None` if the group is gone.
fn event(folder: &Path, key: &str) -> io::Result<Option<u64>> {
    keyed(&folder.join("cgroup.events"), key)
}

fn keyed(path: &Path, key: &str) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    Ok(text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    }))
}

/// A group that is removed while it is read is gone, too.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    super::process::stat(pid).is_some_and(|stat| stat.is_alive)
}

fn kill(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // Fails for a process that has ended meanwhile.
        let _ = signal::kill(Pid::from_raw(pid), signal);
    }
}

fn wait(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() >= end {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("not within {PATIENCE:?}"),
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|error| at(path, &error))
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_used() {
        let v1 = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
34 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /mnt/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:33 /part /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
";
        let roots = |text: &str| {
            let roots = hierarchies(text).into_iter().map(|one| one.root);
            roots.collect::<Vec<_>>()
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let [cpu, memory] = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"];
        assert_eq!(roots(v1), paths(&[cpu, "/sys/fs/cgroup/freezer", memory]));
        let unified = "41 31 0:38 / /there/is/none rw,relatime - cgroup2 cgroup2 rw\n";
        let both = hierarchies(&format!("{v1}{unified}"));
        assert_eq!(
            roots(&format!("{v1}{unified}")),
            paths(&[cpu, memory, "/there/is/none"])
        );
        assert!(both.last().unwrap().is_v2);
        assert_eq!(both[0].controllers, ["cpu", "cpuacct"]);
        let read_only = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 ro\n";
        assert!(hierarchies(read_only).is_empty());
    }

    #[test]
    fn folders_and_files_that_are_gone_are_empty_groups() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree {
            hierarchies: vec![Hierarchy {
                is_v2: true,
                controllers: Vec::new(),
                root: root.path().to_owned(),
            }],
            parent: "lb-test".to_owned(),
        };
        let group = tree.group("web-1-1");
        assert_eq!(group.path(), "/lb-test/web-1-1");
        assert!(!group.is_populated().unwrap());
        assert!(!group.is_frozen().unwrap());
        assert!(group.processes().unwrap().is_empty());
        group.kill().unwrap();
        group.remove().unwrap();
        group.create().unwrap();
        assert_eq!(tree.names().unwrap(), ["web-1-1"]);
        group.remove().unwrap();
        tree.remove_if_empty();
        assert!(!root.path().join("lb-test").exists());
    }
}
