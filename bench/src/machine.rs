//! The machine that benchmarks run on.

use std::{fs, thread};

use anyhow::Context as _;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Binds this thread to a processor, the last one by default, and returns its number.
///
/// # Errors
/// Fails if there is no such processor.
pub fn settle_on(cpu: Option<usize>) -> anyhow::Result<usize> {
    let cpu = match cpu {
        Some(cpu) => cpu,
        None => {
            thread::available_parallelism()
                .context("counting the processors")?
                .get()
                - 1
        }
    };
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("moving to processor {cpu} (`nproc` says how many there are)"))?;
    Ok(cpu)
}

/// While this value exists, other threads do not preempt this one (SCHED_FIFO).
pub struct Undisturbed(());

impl Undisturbed {
    /// Changes the scheduling policy; returns `None` if that is not permitted.
    pub fn begin() -> Option<Undisturbed> {
        schedule(libc::SCHED_FIFO, 1).then_some(Undisturbed(()))
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the record outlives the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// Returns the release of the running kernel.
///
/// # Errors
/// Fails if `/proc` cannot be read.
pub fn kernel() -> anyhow::Result<String> {
    let text =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    Ok(text.trim().to_owned())
}

/// Returns the kernel's name of the processor.
///
/// # Errors
/// Fails if `/proc` cannot be read.
pub fn processor() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    Ok(name.to_owned())
}
