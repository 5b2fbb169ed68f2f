//! What can be set on a project.

use std::collections::BTreeMap;

use crate::{pool::Size, settings::check_description};

crate::settings! {
    /// What a project may have at most.
    pub struct Quota {
        /// Load balancers.
        balancers: u32 = 10, 0..=100_000;
        /// Subnets.
        subnets: u32 = 10, 0..=100_000;
        /// Nodes of all its load balancers, as many as they may grow to.
        nodes: u32 = 20, 0..=1_000_000;
        /// Instances of the pools of its environments, as many as they may grow to (`scaling.max`).
        instances: u32 = 20, 0..=1_000_000;
        /// CPUs of all its nodes, and of these instances. Default: as many as they may have.
        cpu: Option<f64> = None, 0.0..=1_000_000.0;
        /// Memory of all its nodes, and of these instances. Default: as much as they may have.
        memory: Option<Size> = None, Size(0)..=Size(1 << 60);
    }
}

impl Default for Quota {
    fn default() -> Self {
        crate::settings::defaults()
    }
}

crate::settings! {
    /// What can be set on a project.
    pub struct ProjectSpec {
        /// What it may have at most.
        quota: Quota = Quota::default();
        /// Labels, for programs of the operator.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// Free text about the project, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        let spec: &ProjectSpec = spec;
        check_description(spec.description.as_deref())
    }
}
