//! What a process has used, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// Returns the CPU time of all threads of a process, in seconds with a resolution of nanoseconds.
///
/// # Errors
/// Fails if the process is gone.
pub fn processor_time(pid: u32) -> anyhow::Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let mut nanoseconds = 0.0;
    for thread in fs::read_dir(&folder).with_context(|| format!("listing {folder}"))? {
        let file = thread?.path().join("schedstat");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += first
            .parse::<f64>()
            .with_context(|| format!("{} begins with {first:?}", file.display()))?;
    }
    Ok(nanoseconds / 1e9)
}

/// Returns the resident set of a process, in KiB.
///
/// # Errors
/// Fails if the process is gone.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    fs::read_to_string(&file)
        .with_context(|| format!("reading {file}"))?
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("{file} has no VmRSS"))
}
