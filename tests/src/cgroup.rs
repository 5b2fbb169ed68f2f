//! Control groups, which limit the CPU time and memory of processes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::wait_for;

/// Prefix of the folders of testbeds; the number after it is the process that has created them.
const PREFIX: &str = "lb-testbed-";

/// The period of quotas. With a short one, a server at its limit pauses for tens of milliseconds at most. The kernel
/// accepts periods from 1 ms to 1 s, and quotas of at least 1 ms.
const PERIOD: Duration = Duration::from_millis(50);

/// What the processes of a group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// CPU time in cores, at least 0.02.
    pub cores: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

/// A handle to a control group of the version that this machine has. Dropping the last clone kills the processes in the
/// group and removes it.
#[derive(Clone, Debug)]
pub struct Cgroup(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    hierarchies: Vec<Hierarchy>,
}

/// The group in one hierarchy.
#[derive(Clone, Debug)]
struct Hierarchy {
    kind: Kind,
    folder: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A hierarchy of version 1, with its controllers.
    V1(Vec<String>),
    V2,
}

impl Cgroup {
    /// Creates a group with these limits.
    ///
    /// # Errors
    /// Fails without root, or if a controller is missing or cannot be enabled.
    pub fn new(limits: Limits) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{PREFIX}{}-{}",
            process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut inner = Inner {
            name,
            hierarchies: Vec::new(),
        };
        for (kind, root) in roots()? {
            sweep(&root);
            let folder = root.join(&inner.name);
            fs::create_dir(&folder)
                .with_context(|| format!("creating {}; this needs root", folder.display()))?;
            // Recorded at once, so that the folder is removed if a later step fails.
            inner.hierarchies.push(Hierarchy { kind, folder });
        }
        let group = Self(Arc::new(inner));
        if let Some(cores) = limits.cores {
            group.set_cores(cores)?;
        }
        if let Some(bytes) = limits.memory {
            group.set_memory(bytes)?;
        }
        Ok(group)
    }

    /// Returns the path of the group, as `/proc/PID/cgroup` shows it.
    pub fn path(&self) -> String {
        format!("/{}", self.0.name)
    }

    /// Changes the CPU limit.
    ///
    /// # Errors
    /// Fails if the controller is missing, or the limit is below the kernel's minimum.
    pub fn set_cores(&self, cores: f64) -> anyhow::Result<()> {
        self.set_quota(cores, PERIOD)
    }

    /// Changes the CPU limit and the period of its quota, 1 ms to 1 s.
    ///
    /// # Errors
    /// See [`Cgroup::set_cores`]. The kernel rejects a quota below 1 ms.
    pub fn set_quota(&self, cores: f64, period: Duration) -> anyhow::Result<()> {
        let quota = period.mul_f64(cores).as_micros();
        let period = period.as_micros();
        let (kind, folder) = self.holder("cpu")?;
        match kind {
            Kind::V1(_) => {
                write(&folder.join("cpu.cfs_period_us"), &period.to_string())?;
                write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            Kind::V2 => write(&folder.join("cpu.max"), &format!("{quota} {period}")),
        }
    }

    /// Periods of the CPU limit in which its processes had to wait for the next one.
    ///
    /// # Errors
    /// Fails if the controller is missing.
    pub fn throttled_periods(&self) -> anyhow::Result<u64> {
        let (_, folder) = self.holder("cpu")?;
        let text = read(&folder.join("cpu.stat"))?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "))
            .context("cpu.stat has no nr_throttled")?;
        Ok(value.trim().parse()?)
    }

    /// Changes the memory limit.
    ///
    /// # Errors
    /// Fails if the controller is missing, or the group uses more already.
    pub fn set_memory(&self, bytes: u64) -> anyhow::Result<()> {
        let (kind, folder) = self.holder("memory")?;
        let name = match kind {
            Kind::V1(_) => "memory.limit_in_bytes",
            Kind::V2 => "memory.max",
        };
        write(&folder.join(name), &bytes.to_string())
    }

    /// Gives the group the greatest CPU weight, so that other load of the machine hardly affects it.
    ///
    /// # Errors
    /// Fails if the controller is missing.
    pub fn prefer(&self) -> anyhow::Result<()> {
        // The greatest values that the kernel accepts.
        let (kind, folder) = self.holder("cpu")?;
        match kind {
            Kind::V1(_) => write(&folder.join("cpu.shares"), "262144"),
            Kind::V2 => write(&folder.join("cpu.weight"), "10000"),
        }
    }

    /// Returns the CPU time that the processes have used.
    ///
    /// # Errors
    /// Fails if the kernel's accounting cannot be read.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let (kind, folder) = self.holder("cpuacct")?;
        match kind {
            Kind::V1(_) => Ok(Duration::from_nanos(
                read(&folder.join("cpuacct.usage"))?.trim().parse()?,
            )),
            Kind::V2 => {
                let stat = read(&folder.join("cpu.stat"))?;
                let used = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec "))
                    .context("cpu.stat has no usage")?;
                Ok(Duration::from_micros(used.parse()?))
            }
        }
    }

    /// Returns the bytes that are accounted to the group now.
    ///
    /// # Errors
    /// Fails if the controller is missing.
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.memory_figure("memory.usage_in_bytes", "memory.current")
    }

    /// Returns the most bytes that were accounted to the group at once.
    ///
    /// # Errors
    /// Fails if the controller is missing, or the kernel is older than 5.19 and has version 2 only.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.memory_figure("memory.max_usage_in_bytes", "memory.peak")
    }

    fn memory_figure(&self, v1: &str, v2: &str) -> anyhow::Result<u64> {
        let (kind, folder) = self.holder("memory")?;
        let name = match kind {
            Kind::V1(_) => v1,
            Kind::V2 => v2,
        };
        Ok(read(&folder.join(name))?.trim().parse()?)
    }

    /// Makes a command start in this group.
    ///
    /// # Errors
    /// Fails if the group's files cannot be opened.
    pub fn confine(&self, command: &mut Command) -> anyhow::Result<()> {
        let mut members = Vec::new();
        for hierarchy in &self.0.hierarchies {
            members.push(open_members(&hierarchy.folder)?);
        }
        // SAFETY: writing to open files is a plain system call, safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // 0 stands for the writing process.
                members.iter().try_for_each(|mut file| file.write_all(b"0"))
            });
        }
        Ok(())
    }

    /// Moves a running process into this group.
    ///
    /// # Errors
    /// Fails if the process is gone.
    pub fn add(&self, pid: u32) -> anyhow::Result<()> {
        for hierarchy in &self.0.hierarchies {
            open_members(&hierarchy.folder)?
                .write_all(pid.to_string().as_bytes())
                .with_context(|| format!("moving {pid} to {}", hierarchy.folder.display()))?;
        }
        Ok(())
    }

    fn holder(&self, controller: &str) -> anyhow::Result<(&Kind, &Path)> {
        let holds = |kind: &Kind| match kind {
            Kind::V1(controllers) => controllers.iter().any(|name| name == controller),
            Kind::V2 => true,
        };
        self.0
            .hierarchies
            .iter()
            .find(|hierarchy| holds(&hierarchy.kind))
            .map(|hierarchy| (&hierarchy.kind, hierarchy.folder.as_path()))
            .with_context(|| format!("no hierarchy of control groups holds {controller}"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for Hierarchy { folder, .. } in &self.hierarchies {
            let _ = wait_for(
                "the end of a control group's processes",
                Duration::from_secs(20),
                || {
                    for pid in read(&folder.join("cgroup.procs"))?
                        .lines()
                        .filter_map(|line| line.parse().ok())
                    {
                        // Fails for a process that has ended meanwhile.
                        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                    fs::remove_dir(folder)?;
                    Ok(Some(()))
                },
            );
        }
    }
}

/// Returns the hierarchies with the CPU and memory controllers, and the folders to create groups in: those of version 1
/// if they are mounted, otherwise the one of version 2, with the controllers enabled.
fn roots() -> anyhow::Result<Vec<(Kind, PathBuf)>> {
    const WANTED: [&str; 3] = ["cpu", "cpuacct", "memory"];
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
    let mut first = Vec::new();
    let mut second = None;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, point, kind, options, ..] = fields[..] else {
            continue;
        };
        let controllers: Vec<String> = options
            .split(',')
            .filter(|name| WANTED.contains(name))
            .map(str::to_owned)
            .collect();
        if kind == "cgroup" && !controllers.is_empty() {
            first.push((Kind::V1(controllers), PathBuf::from(point)));
        } else if kind == "cgroup2" {
            second = Some(PathBuf::from(point));
        }
    }
    if !first.is_empty() {
        return Ok(first);
    }
    let Some(root) = second else {
        bail!("no control groups are mounted; mount cgroup2 at /sys/fs/cgroup");
    };
    for controller in ["cpu", "memory"] {
        let enabled = read(&root.join("cgroup.subtree_control"))?;
        if !enabled.split_whitespace().any(|name| name == controller) {
            write(
                &root.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            )?;
        }
    }
    Ok(vec![(Kind::V2, root)])
}

/// Removes the groups of testbeds whose process was killed.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if let Some(maker) = maker
            && signal::kill(Pid::from_raw(maker), None).is_err()
        {
            // The kernel keeps a group that has processes.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn open_members(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("cgroup.procs");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written: io::Result<()> = fs::write(path, text);
    written.with_context(|| format!("writing {text} to {}", path.display()))
}
