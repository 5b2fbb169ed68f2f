//! CPU and memory of the whole host, read with `sysinfo`.

use std::time::Instant;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

/// The host's CPUs and memory and their use.
#[derive(Debug)]
pub struct Host {
    system: System,
    /// Time of the first refresh. CPU use is known once that is old enough to compare with.
    first_refresh: Option<Instant>,
}

impl Host {
    pub(super) fn new() -> Result<Self, sysinfo::Error> {
        let mut host = Self {
            system: System::new()?,
            first_refresh: None,
        };
        host.refresh();
        Ok(host)
    }

    /// Reads the counters. `sysinfo` skips CPU counters that are read less than 200 ms after the last time.
    pub(super) fn refresh(&mut self) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.first_refresh.get_or_insert_with(Instant::now);
    }

    pub(super) fn cores(&self) -> u32 {
        u32::try_from(self.system.cpus().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn memory(&self) -> u64 {
        self.system.total_memory()
    }

    pub(super) fn cpu_used(&self) -> Option<f64> {
        self.first_refresh
            .filter(|first_refresh| first_refresh.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL)?;
        let used = f64::from(self.system.global_cpu_usage()) / 100.0;
        used.is_finite().then(|| used.clamp(0.0, 1.0))
    }

    pub(super) fn memory_used(&self) -> Option<f64> {
        let total = self.memory();
        let available = self.system.available_memory().min(total);
        (total > 0).then(|| 1.0 - available as f64 / total as f64)
    }

    pub(super) fn load_average() -> Option<f64> {
        let load = System::load_average().ok()?.one;
        load.is_finite().then_some(load)
    }
}
