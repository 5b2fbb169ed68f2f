//! Control groups of both versions: their folders, limits and counters.
//!
//! Limits nest: a group is bound by its own limits and by those of every ancestor. Each level with a limit is
//! measured against that limit, and the level nearest to its limit decides.

mod cpu_list;
mod levels;
mod path;
pub mod v1;
pub mod v2;

pub use cpu_list::count as cpus;
pub use levels::{CpuLevel, MemoryLevel, cpu_levels, is_limited, memory_levels, processes};
pub use path::{Groups, Mount, mounts};

/// Version of the hierarchy that has a controller. A machine may mount both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A hierarchy per controller.
    V1,
    /// One hierarchy for all controllers.
    V2,
}

/// Returns the value of `key` in a file of `key value` lines, such as `cpu.stat` and `memory.stat`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}
