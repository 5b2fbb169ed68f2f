//! Control groups: where one is, what it may use and what it has used, for both versions.
//!
//! Limits nest: a group may use what it and all groups above it allow. Each level that has a limit is
//! measured against its own, and the one nearest to its limit is what counts.

mod cpu_list;
mod levels;
mod place;
pub mod v1;
pub mod v2;

pub use cpu_list::count as cpus;
pub use levels::{CpuLevel, MemoryLevel, cpu_levels, is_limited, memory_levels, processes};
pub use place::{Groups, Mount, mounts};

/// Version of the hierarchy that holds a controller. A machine may have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The value after `key` in a file of lines `key value`, as `cpu.stat` and `memory.stat` are.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}
