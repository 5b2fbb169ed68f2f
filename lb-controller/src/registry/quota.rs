//! What a project may have at most: its load balancers, their nodes, and the pools of its environments, as large as they may grow.

use lb_model::{
    pool::{PoolName, PoolSpec, Size},
    project::{BalancerSpec, ObjectName, ProjectSpec, Quota},
    settings::{FieldError, from_map},
};

use super::{BalancerRecord, Key, Making, ProjectRecord, Refusal, Registry};
use crate::KINDS;

/// What a pool of an environment may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Guest {
    project: u64,
    instances: u64,
    cpu: Option<f64>,
    memory: Option<u64>,
}

impl Guest {
    fn new(project: u64, spec: &PoolSpec) -> Self {
        Guest {
            project,
            instances: u64::from(spec.scaling.max.max(spec.scaling.min)),
            cpu: spec.template.cpu,
            memory: spec.template.memory.map(|size| size.0),
        }
    }
}

/// What is in a project together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Needs {
    balancers: usize,
    nodes: u64,
    instances: u64,
    cpu: f64,
    memory: u64,
}

impl Registry {
    /// Whether a project may have a pool of an environment, in the place of the one of this name.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_guest(
        &self,
        project: &Key,
        pool: &PoolName,
        spec: &PoolSpec,
        making: &Making,
    ) -> Result<(), Refusal> {
        let project = self.open_project(project)?;
        let settings: ProjectSpec = from_map(&project.spec).map_err(Refusal::Invalid)?;
        let missing = |what: &str| {
            let advice = format!(
                "the project {} has a quota of it; give what an instance may take",
                project.name
            );
            Refusal::Invalid(FieldError::missing(what, advice))
        };
        if settings.quota.cpu.is_some() && spec.template.cpu.is_none() {
            return Err(missing("template.cpu"));
        }
        if settings.quota.memory.is_some() && spec.template.memory.is_none() {
            return Err(missing("template.memory"));
        }
        let mut needs = self.needs_without(project.id, None, Some(pool), making);
        needs.add(&Guest::new(project.id, spec));
        check(&project.name, &settings.quota, needs)
    }

    /// A project has a pool of an environment from now on.
    pub fn put_guest(&mut self, project: u64, pool: PoolName, spec: &PoolSpec) {
        self.guests.insert(pool, Guest::new(project, spec));
    }

    /// It has it no more.
    pub fn remove_guest(&mut self, pool: &PoolName) {
        self.guests.remove(pool);
    }

    pub(super) fn check_quota_with(
        &self,
        project: &ProjectRecord,
        record: &BalancerRecord,
        making: &Making,
    ) -> Result<(), Refusal> {
        // What is stored was checked.
        let spec: ProjectSpec = from_map(&project.spec).map_err(Refusal::Invalid)?;
        let needs = self.needs_without(project.id, Some(record), None, making);
        check(&project.name, &spec.quota, needs)
    }

    /// Whether what a project has is within a quota.
    pub(super) fn check_quota(
        &self,
        project: &ProjectRecord,
        quota: &Quota,
        making: &Making,
    ) -> Result<(), Refusal> {
        let needs = self.needs_without(project.id, None, None, making);
        check(&project.name, quota, needs)
    }

    /// What a project needs, with a load balancer in the place of the one with its id, and without a pool.
    fn needs_without(
        &self,
        project: u64,
        with: Option<&BalancerRecord>,
        pool: Option<&PoolName>,
        making: &Making,
    ) -> Needs {
        let others = self
            .balancers_of(project)
            .filter(|one| !one.is_deleted && with.is_none_or(|with| with.id != one.id));
        let mut needs = Needs::default();
        for one in others.chain(with) {
            // What is stored was checked.
            let Ok(spec) = BalancerSpec::read(&one.spec, KINDS.probes) else {
                continue;
            };
            let count = spec.most_nodes();
            needs.balancers += 1;
            needs.nodes += u64::from(count);
            if let Some(nodes) = &making.nodes {
                let (cpu, memory) = nodes.claim_of(&spec);
                needs.cpu += cpu * f64::from(count);
                needs.memory += memory * u64::from(count);
            }
        }
        let guests = self.guests.iter();
        let guests = guests.filter(|(name, one)| one.project == project && Some(*name) != pool);
        guests.for_each(|(_, guest)| needs.add(guest));
        needs
    }
}

impl Needs {
    fn add(&mut self, guest: &Guest) {
        self.instances += guest.instances;
        self.cpu += guest.cpu.unwrap_or_default() * guest.instances as f64;
        let memory = guest.memory.unwrap_or_default();
        self.memory = self
            .memory
            .saturating_add(memory.saturating_mul(guest.instances));
    }
}

fn check(project: &ObjectName, quota: &Quota, needs: Needs) -> Result<(), Refusal> {
    let over = |what, most: String, wanted: String| Refusal::Quota {
        project: project.clone(),
        what,
        most,
        wanted,
    };
    let counts = [
        ("load balancers", quota.balancers, needs.balancers as u64),
        ("nodes", quota.nodes, needs.nodes),
        (
            "instances of environments",
            quota.instances,
            needs.instances,
        ),
    ];
    for (what, most, wanted) in counts {
        if wanted > u64::from(most) {
            return Err(over(what, most.to_string(), wanted.to_string()));
        }
    }
    if let Some(most) = quota.cpu
        && needs.cpu > most
    {
        return Err(over("CPUs", most.to_string(), needs.cpu.to_string()));
    }
    if let Some(most) = quota.memory
        && needs.memory > most.0
    {
        return Err(over(
            "of memory",
            most.to_string(),
            Size(needs.memory).to_string(),
        ));
    }
    Ok(())
}
