//! The whole host, by `sysinfo`.

use std::time::Instant;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

/// What the host has, and how much of it is used.
#[derive(Debug)]
pub struct Host {
    system: System,
    /// Use of the CPU is known once a first look is old enough.
    first: Option<Instant>,
}

impl Host {
    pub(super) fn new() -> Result<Self, sysinfo::Error> {
        let mut host = Self {
            system: System::new()?,
            first: None,
        };
        host.refresh();
        Ok(host)
    }

    /// Looks again. A look at the CPU less than 200 ms after the last counts with the next.
    pub(super) fn refresh(&mut self) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.first.get_or_insert_with(Instant::now);
    }

    pub(super) fn cores(&self) -> u32 {
        u32::try_from(self.system.cpus().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn memory(&self) -> u64 {
        self.system.total_memory()
    }

    pub(super) fn cpu_used(&self) -> Option<f64> {
        self.first
            .filter(|first| first.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL)?;
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
