//! Reads the counters and limits of a group and of those above it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Version, cpu_list,
    place::{Groups, Place},
    v1, v2,
};
use crate::report::{cpu::Count, file::read};

/// A group deeper than this is measured up to here only; systemd and container engines make less than ten
/// levels.
const MAX_LEVELS: usize = 32;
/// Processes of a group that are looked at.
const MAX_PROCESSES: usize = 256;

/// CPU of one level.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuLevel {
    /// Its folder.
    pub folder: PathBuf,
    /// What it may use, in cores; `None`: whatever there is.
    pub cores: Option<f64>,
    /// What it has used.
    pub count: Count,
}

/// Memory of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLevel {
    /// Bytes it may use; `None`: whatever there is.
    pub limit: Option<u64>,
    /// Bytes it uses, without cache that is not missed.
    pub used: u64,
}

/// The group's CPU, then that of each group above it that has a limit.
///
/// # Errors
/// When the group's own cannot be read.
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
             and its quota do not fit each other; put it into groups of the same name",
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
            let told = format!("{}: no CPU time in it", time_folder.display());
            io::Error::new(io::ErrorKind::InvalidData, told)
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

/// The group's memory, then that of each group above it that has a limit.
///
/// # Errors
/// When the group's own cannot be read; the topmost group of version 2 has none, for example.
pub fn memory_levels(groups: &Groups) -> io::Result<Vec<MemoryLevel>> {
    let place = groups.memory.as_ref().ok_or_else(|| {
        let told = "no hierarchy with the memory controller has this control group";
        io::Error::new(io::ErrorKind::NotFound, told)
    })?;
    let mut levels = Vec::new();
    for folder in place.levels().take(MAX_LEVELS) {
        let limit = memory_limit(place.version, &folder);
        if !levels.is_empty() && limit.is_none() {
            continue;
        }
        let stat = read(&folder.join("memory.stat"))?;
        let used = match place.version {
            Version::V1 => v1::memory_used(&read(&folder.join("memory.usage_in_bytes"))?, &stat),
            Version::V2 => v2::memory_used(&read(&folder.join("memory.current"))?, &stat),
        };
        let used = used.ok_or_else(|| {
            let told = format!("{}: no memory use in it", folder.display());
            io::Error::new(io::ErrorKind::InvalidData, told)
        })?;
        levels.push(MemoryLevel { limit, used });
    }
    Ok(levels)
}

/// Whether a group, or one above it, may use less than the host has: CPU in `host_cores`, or memory.
#[must_use]
pub fn is_limited(groups: &Groups, host_cores: u32) -> bool {
    let has = |place: &Option<Place>, limit: &dyn Fn(Version, &Path) -> bool| {
        place.as_ref().is_some_and(|place| {
            place
                .levels()
                .take(MAX_LEVELS)
                .any(|folder| limit(place.version, &folder))
        })
    };
    has(&groups.cpu, &|version, folder| {
        quota(version, folder).is_some_and(|cores| cores < f64::from(host_cores))
    }) || has(&groups.memory, &|version, folder| {
        memory_limit(version, folder).is_some()
    }) || cpuset(groups).is_some_and(|cores| cores < f64::from(host_cores))
}

/// The processes of a group, at most so many as are worth looking at.
#[must_use]
pub fn processes(groups: &Groups) -> Vec<u32> {
    let Some(place) = groups.cpu.as_ref().or(groups.memory.as_ref()) else {
        return Vec::new();
    };
    let listed = read(&place.folder().join("cgroup.procs")).unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.parse().ok())
        .take(MAX_PROCESSES)
        .collect()
}

// A file that is not there is no limit: the controller is not enabled for this group, or it is the topmost.

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

/// Cores of the group's set of CPUs, which the sets above it bound already.
fn cpuset(groups: &Groups) -> Option<f64> {
    let place = groups.cpuset.as_ref()?;
    let name = match place.version {
        Version::V1 => "cpuset.effective_cpus",
        Version::V2 => "cpuset.cpus.effective",
    };
    cpu_list::count(&read(&place.folder().join(name)).ok()?).map(f64::from)
}
