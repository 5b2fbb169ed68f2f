//! Reads the counters and limits of a group and of its ancestors.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Version, cpu_list,
    path::{CgroupPath, Groups},
    v1, v2,
};
use crate::{cpu::Count, file::read};

/// Levels that are measured, from the group up. systemd and container engines create fewer than ten.
const MAX_LEVELS: usize = 32;
/// Processes of a group that are examined at most.
const MAX_PROCESSES: usize = 256;

/// CPU limit and counters of one level.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuLevel {
    /// The level's folder.
    pub folder: PathBuf,
    /// The limit in cores; `None` means no limit at this level.
    pub cores: Option<f64>,
    /// CPU time and periods used so far.
    pub count: Count,
}

/// Memory limit and use of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLevel {
    /// The limit in bytes; `None` means no limit at this level.
    pub limit: Option<u64>,
    /// Bytes in use, without reclaimable cache (inactive files).
    pub used: u64,
}

/// Reads the CPU level of the group, then that of each ancestor with a limit.
///
/// # Errors
/// When the files of the group cannot be read.
pub fn cpu_levels(groups: &Groups) -> io::Result<Vec<CpuLevel>> {
    let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
    let quotas = groups
        .cpu
        .as_ref()
        .ok_or_else(|| missing("no hierarchy with the CPU controller has this control group"))?;
    let times = groups.cpu_time.as_ref().ok_or_else(|| {
        missing("no hierarchy with the cpuacct controller has this control group")
    })?;
    if quotas.path != times.path {
        return Err(missing(
            "the process is in different control groups of the controllers cpu and cpuacct, so its CPU time \
             and its quota do not fit each other; put the process into groups of the same name",
        ));
    }
    let mut levels = Vec::new();
    for (folder, time_folder) in quotas.levels().zip(times.levels()).take(MAX_LEVELS) {
        let mut cores = quota(quotas.version, &folder);
        if levels.is_empty() {
            cores = [cores, cpuset(groups)]
                .into_iter()
                .flatten()
                .min_by(f64::total_cmp);
        } else if cores.is_none() {
            continue;
        }
        let stat = read(&folder.join("cpu.stat"))?;
        let usage = match times.version {
            Version::V1 => v1::usage(&read(&time_folder.join("cpuacct.usage"))?),
            Version::V2 => v2::usage(&read(&time_folder.join("cpu.stat"))?),
        };
        let usage = usage.ok_or_else(|| {
            let reason = format!("{}: no CPU time in it", time_folder.display());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        let count = Count {
            usage,
            periods: cores.and(v2::periods(&stat)),
        };
        levels.push(CpuLevel {
            folder,
            cores,
            count,
        });
    }
    Ok(levels)
}

/// Reads the memory level of the group, then that of each ancestor with a limit.
///
/// # Errors
/// When the files of the group cannot be read; the topmost group of version 2 lacks them, for example.
pub fn memory_levels(groups: &Groups) -> io::Result<Vec<MemoryLevel>> {
    let cgroup = groups.memory.as_ref().ok_or_else(|| {
        let reason = "no hierarchy with the memory controller has this control group";
        io::Error::new(io::ErrorKind::NotFound, reason)
    })?;
    let mut levels = Vec::new();
    for folder in cgroup.levels().take(MAX_LEVELS) {
        let limit = memory_limit(cgroup.version, &folder);
        if !levels.is_empty() && limit.is_none() {
            continue;
        }
        let stat = read(&folder.join("memory.stat"))?;
        let used = match cgroup.version {
            Version::V1 => v1::memory_used(&read(&folder.join("memory.usage_in_bytes"))?, &stat),
            Version::V2 => v2::memory_used(&read(&folder.join("memory.current"))?, &stat),
        };
        let used = used.ok_or_else(|| {
            let reason = format!("{}: no memory use in it", folder.display());
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        levels.push(MemoryLevel { limit, used });
    }
    Ok(levels)
}

/// Returns true if a group or one of its ancestors has a limit below what the host has: a memory limit, or fewer
/// than `host_cores` cores.
#[must_use]
pub fn is_limited(groups: &Groups, host_cores: u32) -> bool {
    let has = |cgroup: &Option<CgroupPath>, limit: &dyn Fn(Version, &Path) -> bool| {
        cgroup.as_ref().is_some_and(|cgroup| {
            cgroup
                .levels()
                .take(MAX_LEVELS)
                .any(|folder| limit(cgroup.version, &folder))
        })
    };
    has(&groups.cpu, &|version, folder| {
        quota(version, folder).is_some_and(|cores| cores < f64::from(host_cores))
    }) || has(&groups.memory, &|version, folder| {
        memory_limit(version, folder).is_some()
    }) || cpuset(groups).is_some_and(|cores| cores < f64::from(host_cores))
}

/// Lists the process ids of a group, at most 256.
#[must_use]
pub fn processes(groups: &Groups) -> Vec<u32> {
    let Some(cgroup) = groups.cpu.as_ref().or(groups.memory.as_ref()) else {
        return Vec::new();
    };
    let listed = read(&cgroup.folder().join("cgroup.procs")).unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.parse().ok())
        .take(MAX_PROCESSES)
        .collect()
}

// A missing file means no limit: the controller is not enabled for the group, or the group is the topmost one.

fn quota(version: Version, folder: &Path) -> Option<f64> {
    match version {
        Version::V1 => v1::cores(
            &read(&folder.join("cpu.cfs_quota_us")).ok()?,
            &read(&folder.join("cpu.cfs_period_us")).ok()?,
        ),
        Version::V2 => v2::cores(&read(&folder.join("cpu.max")).ok()?),
    }
}

fn memory_limit(version: Version, folder: &Path) -> Option<u64> {
    match version {
        Version::V1 => v1::memory_limit(&read(&folder.join("memory.limit_in_bytes")).ok()?),
        Version::V2 => v2::memory_limit(&read(&folder.join("memory.max")).ok()?),
    }
}

/// Counts the CPUs of the group's effective set. The kernel has intersected it with the ancestors' sets.
fn cpuset(groups: &Groups) -> Option<f64> {
    let cgroup = groups.cpuset.as_ref()?;
    let name = match cgroup.version {
        Version::V1 => "cpuset.effective_cpus",
        Version::V2 => "cpuset.cpus.effective",
    };
    cpu_list::count(&read(&cgroup.folder().join(name)).ok()?).map(f64::from)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{cgroup::mounts, cpu::Periods};

    /// Creates a tree of files like the kernel's.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        tree
    }

    fn groups(tree: &Path, mounted: &[(&str, &str)], process: &str) -> Groups {
        let lines: String = mounted
            .iter()
            .map(|(point, kind)| format!("1 1 0:1 / {}{point} rw - {kind}\n", tree.display()))
            .collect();
        Groups::of_process(&mounts(&lines), process)
    }

    #[test]
    fn version_2_counts_each_limit_up_to_the_top() {
        let tree = tree(&[
            ("cgroup.procs", "1\n"),
            ("cpu.stat", "usage_usec 9000000\n"),
            ("memory.stat", "inactive_file 0\n"),
            (
                "a/cpu.stat",
                "usage_usec 5000000\nnr_periods 10\nnr_throttled 2\n",
            ),
            ("a/cpu.max", "50000 100000\n"),
            ("a/memory.max", "max\n"),
            ("a/memory.current", "800\n"),
            ("a/memory.stat", "inactive_file 300\n"),
            (
                "a/b/cpu.stat",
                "usage_usec 1000000\nnr_periods 0\nnr_throttled 0\n",
            ),
            ("a/b/cpu.max", "max 100000\n"),
            ("a/b/cpuset.cpus.effective", "0-3\n"),
            ("a/b/memory.max", "1000\n"),
            ("a/b/memory.current", "600\n"),
            ("a/b/memory.stat", "anon 1\ninactive_file 100\n"),
            ("a/b/cgroup.procs", "7\n8\n"),
        ]);
        let groups = groups(tree.path(), &[("", "cgroup2 cgroup2 rw")], "0::/a/b\n");
        let levels = cpu_levels(&groups).expect("files are there");
        let fields: Vec<_> = levels
            .iter()
            .map(|level| (level.cores, level.count.usage, level.count.periods))
            .collect();
        let periods = |all, throttled| Some(Periods { all, throttled });
        assert_eq!(
            fields,
            [
                (Some(4.0), Duration::from_secs(1), periods(0, 0)),
                (Some(0.5), Duration::from_secs(5), periods(10, 2)),
            ]
        );
        assert_eq!(levels[1].folder, tree.path().join("a"));
        let memory = memory_levels(&groups).expect("files are there");
        let limit = Some(1000);
        assert_eq!(memory, [MemoryLevel { limit, used: 500 }]);
        assert_eq!(processes(&groups), [7, 8]);
        assert!(is_limited(&groups, 4));
    }

    #[test]
    fn version_1_has_a_tree_per_controller() {
        let tree = tree(&[
            ("cpu/x/cpu.cfs_quota_us", "20000\n"),
            ("cpu/x/cpu.cfs_period_us", "100000\n"),
            (
                "cpu/x/cpu.stat",
                "nr_periods 21\nnr_throttled 20\nthrottled_time 1459909735\n",
            ),
            ("cpu/x/cgroup.procs", "5\n"),
            ("cpuacct/x/cpuacct.usage", "403000000\n"),
            ("memory/m/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/m/memory.usage_in_bytes", "700\n"),
            ("memory/m/memory.stat", "total_inactive_file 200\n"),
        ]);
        let mounted = [
            ("/cpu", "cgroup cgroup rw,cpu"),
            ("/cpuacct", "cgroup cgroup rw,cpuacct"),
            ("/memory", "cgroup cgroup rw,memory"),
        ];
        let both = groups(
            tree.path(),
            &mounted,
            "3:memory:/m\n2:cpuacct:/x\n1:cpu:/x\n",
        );
        let levels = cpu_levels(&both).expect("files are there");
        assert_eq!(levels.len(), 1);
        assert_eq!(levels[0].cores, Some(0.2));
        assert_eq!(levels[0].count.usage, Duration::from_millis(403));
        let memory = memory_levels(&both).expect("files are there");
        let used = 500;
        assert_eq!(memory, [MemoryLevel { limit: None, used }]);
        assert!(is_limited(&both, 1));

        // The quota of one group and the time of another make no fraction.
        let apart = groups(tree.path(), &mounted, "2:cpuacct:/\n1:cpu:/x\n");
        let error = cpu_levels(&apart).expect_err("they differ").to_string();
        assert!(error.contains("do not fit each other"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_the_file() {
        let tree = tree(&[("a/cgroup.procs", "1\n"), ("a/cpu.stat", "user_usec 5\n")]);
        let groups = groups(tree.path(), &[("", "cgroup2 cgroup2 rw")], "0::/a\n");
        let error = cpu_levels(&groups).expect_err("no usage").to_string();
        assert!(error.contains("no CPU time"), "{error}");
        let error = memory_levels(&groups).expect_err("no file").to_string();
        assert!(error.contains("memory.stat"), "{error}");
        assert!(!is_limited(&groups, 4));
    }
}
