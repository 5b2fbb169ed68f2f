//! Parses the files of version 1 (Linux Documentation: admin-guide/cgroup-v1, scheduler/sched-bwc).

use std::time::Duration;

use super::keyed;

/// Values from here on mean "no limit": the kernel writes the largest multiple of a page that fits a signed
/// 64-bit number.
const NO_LIMIT: u64 = 1 << 62;

/// Parses the used CPU time from `cpuacct.usage` (ns).
#[must_use]
pub fn usage(cpuacct_usage: &str) -> Option<Duration> {
    cpuacct_usage.trim().parse().ok().map(Duration::from_nanos)
}

/// Returns the cores that `cpu.cfs_quota_us` allows in each `cpu.cfs_period_us`; `None` for a quota of -1.
#[must_use]
pub fn cores(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u32, u32) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Returns the bytes that `memory.limit_in_bytes` allows; `None` without a limit.
#[must_use]
pub fn memory_limit(limit_in_bytes: &str) -> Option<u64> {
    limit_in_bytes
        .trim()
        .parse()
        .ok()
        .filter(|limit| *limit < NO_LIMIT)
}

/// Returns the bytes that cannot be reclaimed cheaply: `memory.usage_in_bytes` minus the inactive files of
/// `memory.stat`. Both count the group and its descendants.
#[must_use]
pub fn memory_used(usage_in_bytes: &str, memory_stat: &str) -> Option<u64> {
    let usage: u64 = usage_in_bytes.trim().parse().ok()?;
    Some(usage.saturating_sub(keyed(memory_stat, "total_inactive_file")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_cores() {
        assert_eq!(cores("-1\n", "100000\n"), None);
        assert_eq!(cores("20000\n", "100000\n"), Some(0.2));
        assert_eq!(cores("20000\n", "0\n"), None);
        assert_eq!(cores("", "100000\n"), None);
    }

    #[test]
    fn usage_is_in_nanoseconds() {
        assert_eq!(
            usage("1459909735\n"),
            Some(Duration::from_nanos(1_459_909_735))
        );
        assert_eq!(usage("-5\n"), None);
    }

    #[test]
    fn memory_is_without_inactive_files_of_the_whole_tree() {
        let stat = "cache 4000\ninactive_file 10\ntotal_cache 4000\ntotal_inactive_file 3000\n";
        assert_eq!(memory_used("5000\n", stat), Some(2000));
        assert_eq!(memory_limit("9223372036854771712\n"), None);
        assert_eq!(memory_limit("67108864\n"), Some(67_108_864));
    }
}
