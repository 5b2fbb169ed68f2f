//! Parses the files of version 2 (Linux Documentation: admin-guide/cgroup-v2).

use std::time::Duration;

use super::keyed;
use crate::cpu::Periods;

/// Parses the used CPU time from `cpu.stat`.
#[must_use]
pub fn usage(cpu_stat: &str) -> Option<Duration> {
    keyed(cpu_stat, "usage_usec").map(Duration::from_micros)
}

/// Parses the periods of the quota from `cpu.stat`; the keys are the same in both versions.
#[must_use]
pub fn periods(cpu_stat: &str) -> Option<Periods> {
    Some(Periods {
        all: keyed(cpu_stat, "nr_periods")?,
        throttled: keyed(cpu_stat, "nr_throttled")?,
    })
}

/// Returns the cores that `cpu.max` allows (`$QUOTA $PERIOD`, both µs); `None` for `max`.
#[must_use]
pub fn cores(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Returns the bytes that `memory.max` allows; `None` for `max`.
#[must_use]
pub fn memory_limit(memory_max: &str) -> Option<u64> {
    memory_max.trim().parse().ok()
}

/// Returns the bytes that cannot be reclaimed cheaply: `memory.current` minus the inactive files of
/// `memory.stat`, which are cache.
#[must_use]
pub fn memory_used(memory_current: &str, memory_stat: &str) -> Option<u64> {
    let current: u64 = memory_current.trim().parse().ok()?;
    // The files are read one after the other, so the second may exceed the first.
    Some(current.saturating_sub(keyed(memory_stat, "inactive_file")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a service under a quota on Linux 6.1.
    const CPU_STAT: &str = "usage_usec 1206412001\nuser_usec 1009033145\nsystem_usec 197378856\n\
        core_sched.force_idle_usec 0\nnr_periods 310\nnr_throttled 31\nthrottled_usec 1459909\nnr_bursts 0\n\
        burst_usec 0\n";

    #[test]
    fn cpu_stat_is_read() {
        assert_eq!(usage(CPU_STAT), Some(Duration::from_micros(1_206_412_001)));
        let read = Periods {
            all: 310,
            throttled: 31,
        };
        assert_eq!(periods(CPU_STAT), Some(read));
        // Without the controller the file has only the times.
        assert_eq!(periods("usage_usec 5\nuser_usec 4\n"), None);
        assert_eq!(usage("usage_usecs 5\n"), None);
    }

    #[test]
    fn cpu_max_is_cores() {
        assert_eq!(cores("max 100000\n"), None);
        assert_eq!(cores("150000 100000\n"), Some(1.5));
        assert_eq!(cores("5000 50000\n"), Some(0.1));
        for broken in ["", "0 100000", "100000 0", "1 2 3", "-1 100000"] {
            assert_eq!(cores(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn memory_is_without_inactive_files() {
        let stat = "anon 1000\nfile 4000\ninactive_file 3000\nactive_file 1000\n";
        assert_eq!(memory_used("5000\n", stat), Some(2000));
        assert_eq!(memory_used("2999\n", stat), Some(0));
        assert_eq!(memory_used("5000\n", "anon 1000\n"), None);
        assert_eq!(memory_limit("max\n"), None);
        assert_eq!(memory_limit("67108864\n"), Some(67_108_864));
    }
}
