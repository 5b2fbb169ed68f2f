//! What instances of this machine use of their own limits, as their control groups and interfaces count it.

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

/// Where an instance's use is counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Its name.
    pub name: InstanceName,
    /// Its control group.
    pub cgroup: String,
    /// The interface of this host that leads to it, if it has one of its own.
    pub interface: Option<String>,
}

/// Bytes that an interface has received and sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Traffic {
    received: u64,
    sent: u64,
}

impl Traffic {
    /// Reads those of all interfaces. Unlike `/sys/class/net`, `/proc/net` is always that of the own network namespace.
    fn read_all() -> HashMap<String, Self> {
        Self::parse(&std::fs::read_to_string("/proc/net/dev").unwrap_or_default())
    }

    /// Two lines of heads, then `NAME: RECEIVED …7 others… SENT …`.
    fn parse(text: &str) -> HashMap<String, Self> {
        let line = |line: &str| {
            let (name, counts) = line.split_once(':')?;
            let counts: Vec<u64> = counts
                .split_whitespace()
                .map_while(|count| count.parse().ok())
                .collect();
            let traffic = Traffic {
                received: *counts.first()?,
                sent: *counts.get(8)?,
            };
            Some((name.trim().to_owned(), traffic))
        };
        text.lines().filter_map(line).collect()
    }

    /// Megabits a second since an earlier reading, of the direction that has more. A count that shrinks is of another interface.
    fn since(self, before: Traffic, elapsed: Duration) -> Option<f64> {
        let received = self.received.checked_sub(before.received)?;
        let sent = self.sent.checked_sub(before.sent)?;
        let seconds = elapsed.as_secs_f64();
        (seconds > 0.0).then(|| received.max(sent) as f64 * 8e-6 / seconds)
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
    traffic: Option<Traffic>,
    /// Megabits a second.
    rate: Option<f64>,
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

    /// Reads what is counted of exactly these instances.
    pub fn read(&mut self, instances: &[Counted]) {
        self.last = Some(Instant::now());
        self.used
            .retain(|name, _| instances.iter().any(|one| one.name == *name));
        let traffic = if instances.iter().any(|one| one.interface.is_some()) {
            Traffic::read_all()
        } else {
            HashMap::new()
        };
        for place in instances {
            let traffic = place.interface.as_ref().and_then(|name| traffic.get(name));
            match self.measure(self.used.get(&place.name), &place.cgroup, traffic.copied()) {
                Some(used) => self.used.insert(place.name.clone(), used),
                // It may have ended meanwhile.
                None => self.used.remove(&place.name),
            };
        }
    }

    fn measure(
        &self,
        before: Option<&Used>,
        cgroup: &str,
        traffic: Option<Traffic>,
    ) -> Option<Used> {
        let groups = Groups::at(&self.mounts, Path::new(cgroup));
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
        let rate = before.and_then(|before| traffic?.since(before.traffic?, at - before.at));
        Some(Used {
            at,
            levels,
            cpu,
            memory,
            traffic,
            rate,
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

    /// Traffic on its network, as a fraction of `limit` megabits a second.
    #[must_use]
    pub fn network(&self, name: &InstanceName, limit: f64) -> Option<Sample> {
        self.sample(name, |used| Some((used.rate? / limit).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_busier_direction() {
        let before = Traffic {
            received: 1_000_000,
            sent: 5_000_000,
        };
        let after = |received, sent| Traffic { received, sent };
        let second = Duration::from_secs(2);
        assert_eq!(after(3_000_000, 5_500_000).since(before, second), Some(8.0));
        assert_eq!(after(1_000_000, 6_000_000).since(before, second), Some(4.0));
        assert_eq!(after(0, 0).since(before, second), None, "another interface");
        let parsed = Traffic::parse(
            "Inter-|   Receive      |  Transmit\n face |bytes    packets|bytes    packets\n    lo: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n",
        );
        assert_eq!(parsed["lo"], after(7, 9));
        assert_eq!(parsed.len(), 1);
        assert!(Traffic::read_all().contains_key("lo"));
    }
}
