//! Open file descriptors as a fraction of the limit.

/// Returns the fraction of the host's limit that is in use, from `/proc/sys/fs/file-nr`: allocated, free (always 0
/// since Linux 2.6), maximum (proc_sys_fs(5)).
#[must_use]
pub fn of_host(file_nr: &str) -> Option<f64> {
    let mut fields = file_nr.split_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (allocated, free, maximum) = (next()?, next()?, next()?);
    fraction(allocated.saturating_sub(free), maximum)
}

/// Returns the fraction of a process's soft limit that `open` descriptors use, from its `/proc/PID/limits`. Returns
/// `None` if the process is unlimited.
#[must_use]
pub fn of_process(open: u64, limits: &str) -> Option<f64> {
    const NAME: &str = "Max open files";
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix(NAME))?
        .split_whitespace()
        .next()?;
    fraction(open, soft.parse().ok()?)
}

fn fraction(open: u64, limit: u64) -> Option<f64> {
    // The limit may have been lowered below the number of open descriptors.
    (limit > 0).then(|| (open as f64 / limit as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_the_hosts_limit() {
        assert_eq!(of_host("1000\t0\t4000\n"), Some(0.25));
        assert_eq!(of_host("1000\t500\t1000\n"), Some(0.5));
        assert!(of_host("1003\t0\t9223372036854775807\n").is_some_and(|used| used < 1e-9));
        for broken in ["", "1 2", "a 0 4", "1 0 0"] {
            assert_eq!(of_host(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn fractions_of_a_processs_limit() {
        let limits = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            20000                524288               files     
Max locked memory         8388608              8388608              bytes     
";
        assert_eq!(of_process(5_000, limits), Some(0.25));
        assert_eq!(of_process(30_000, limits), Some(1.0));
        assert_eq!(
            of_process(1, "Max open files unlimited unlimited files"),
            None
        );
        assert_eq!(of_process(1, ""), None);
    }
}
