//! What instances of this machine use of their own limits, as their control groups count it.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use lb_model::pool::InstanceName;
use lb_report::{
    cgroup::{self, CpuLevel, Groups, Mount},
    cpu,
};
use lb_steering::Sample;

/// How often control groups are read while an instance works, ...
const BUSY: Duration = Duration::from_secs(10);
/// ... and while none does: reading those of thousands takes time, too.
const IDLE: Duration = Duration::from_secs(20);
/// An instance works if it uses more than this fraction of its processor time.
const WORKS: f64 = 0.05;

/// The machine's limits, which bind instances that have none of their own.
#[derive(Clone, Copy, Debug)]
struct Host {
    cores: f64,
    /// Bytes; 0 if that is unknown.
    memory: u64,
}

impl Host {
    fn read() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes = text.lines().find_map(|line| {
            let rest = line.strip_prefix("MemTotal:")?;
            rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        Host {
            cores: cores as f64,
            memory: kibibytes.unwrap_or_default() * 1_024,
        }
    }
}

/// What is known of an instance.
#[derive(Debug)]
struct Used {
    at: Instant,
    levels: Vec<CpuLevel>,
    /// Fractions of its own limits.
    cpu: Option<f64>,
    memory: Option<f64>,
}

/// Reads the control groups of a pool's instances.
#[derive(Debug)]
pub struct Meter {
    host: Host,
    mounts: Vec<Mount>,
    used: HashMap<InstanceName, Used>,
    last: Option<Instant>,
}

impl Default for Meter {
    fn default() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Meter {
            host: Host::read(),
            mounts: cgroup::mounts(&mounts),
            used: HashMap::new(),
            last: None,
        }
    }
}

impl Meter {
    /// Whether it is time to read them.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let works = |used: &Used| used.cpu.is_none_or(|cpu| cpu > WORKS);
        let interval = if self.used.values().any(works) {
            BUSY
        } else {
            IDLE
        };
        self.last.is_none_or(|last| last.elapsed() >= interval)
    }

    /// Reads exactly the groups of these instances.
    pub fn read(&mut self, instances: &[(InstanceName, String)]) {
        self.last = Some(Instant::now());
        self.used
            .retain(|name, _| instances.iter().any(|(one, _)| one == name));
        for (name, group) in instances {
            match self.measure(self.used.get(name), group) {
                Some(used) => self.used.insert(name.clone(), used),
                // It may have ended meanwhile.
                None => self.used.remove(name),
            };
        }
    }

    fn measure(&self, before: Option<&Used>, group: &str) -> Option<Used> {
        let groups = Groups::at(&self.mounts, Path::new(group));
        if groups.is_empty() {
            return None;
        }
        // Without the controller one of both is not counted.
        let levels = cgroup::cpu_levels(&groups).unwrap_or_default();
        let at = Instant::now();
        let fraction = |level: &CpuLevel| {
            let before = before?;
            let last = before
                .levels
                .iter()
                .find(|last| last.folder == level.folder)?;
            let cores = level
                .cores
                .map_or(self.host.cores, |cores| cores.min(self.host.cores));
            let used = cpu::between(&last.count, &level.count, at - before.at, cores)?;
            Some(used.fraction)
        };
        let cpu = levels.iter().filter_map(fraction).max_by(f64::total_cmp);
        let memory = cgroup::memory_levels(&groups).ok().and_then(|levels| {
            let fraction = |level: &cgroup::MemoryLevel| {
                let limit = level.limit.unwrap_or(u64::MAX).min(self.host.memory);
                (limit > 0).then(|| (level.used as f64 / limit as f64).min(1.0))
            };
            levels.iter().filter_map(fraction).max_by(f64::total_cmp)
        });
        Some(Used {
            at,
            levels,
            cpu,
            memory,
        })
    }

    fn sample(&self, name: &InstanceName, value: impl Fn(&Used) -> Option<f64>) -> Option<Sample> {
        let used = self.used.get(name)?;
        Some(Sample {
            value: value(used)?,
            age: used.at.elapsed(),
        })
    }

    /// Processor time, as a fraction of the instance's limit.
    #[must_use]
    pub fn cpu(&self, name: &InstanceName) -> Option<Sample> {
        self.sample(name, |used| used.cpu)
    }

    /// Memory, as a fraction of the instance's limit.
    #[must_use]
    pub fn memory(&self, name: &InstanceName) -> Option<Sample> {
        self.sample(name, |used| used.memory)
    }
}
