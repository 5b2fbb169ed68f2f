//! The projects and load balancers that there are, purely: each order is checked against them, and answered by the record that
//! follows. Nothing else is decided here: what a record says is made true by [`crate::projects`].
//!
//! - `record.rs`: what is stored of them.
//! - [`node`]: what the nodes of a load balancer are made from.
//! - `subnet.rs`: the subnets of projects, and who has addresses in them.

pub mod node;
mod quota;
mod record;
mod settings;
mod subnet;
#[cfg(test)]
mod subnet_tests;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use lb_model::{
    pool::{AddressRange, PoolName},
    project::{BalancerKind, BalancerSpec, ObjectName, ProjectSpec},
    settings::{FieldError, Map, Settings as _, Value, from_map, merged},
};

use self::quota::Guest;
pub use self::{
    record::{BalancerRecord, LegRecord, ProjectRecord, SubnetRecord},
    settings::{AgentNodeSettings, Making, NodeSettings, SharedSettings},
    subnet::{Holder, check_apart},
};
use crate::{
    KINDS,
    records::{Counter, Stored, Unreadable},
};

/// Names an object: by its id, or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Its id.
    Id(u64),
    /// Its name.
    Name(ObjectName),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Id(id) => write!(f, "{id}"),
            Key::Name(name) => f.pad(name.as_str()),
        }
    }
}

impl std::str::FromStr for Key {
    type Err = String;

    /// Names begin with a letter, so a number is an id.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id) => Ok(Key::Id(id)),
            Err(_) => text.parse().map(Key::Name),
        }
    }
}

/// Why an order was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such project.
    #[error("there is no project {0}; `lbctl project list` shows them")]
    NoProject(Key),
    /// There is no such load balancer.
    #[error("there is no load balancer {0} in project {1}; `lbctl lb list {1}` shows them")]
    NoBalancer(Key, ObjectName),
    /// There is no such subnet.
    #[error("there is no subnet {0} in project {1}; `lbctl subnet list {1}` shows them")]
    NoSubnet(Key, ObjectName),
    /// There is a project of this name.
    #[error("there is a project {0} already; give another name, or change that one")]
    ProjectExists(ObjectName),
    /// There is a load balancer of this name.
    #[error(
        "there is a load balancer {0} in project {1} already; give another name, or change that one"
    )]
    BalancerExists(ObjectName, ObjectName),
    /// There is a subnet of this name.
    #[error("there is a subnet {0} in project {1} already; give another name, or change that one")]
    SubnetExists(ObjectName, ObjectName),
    /// It is being deleted.
    #[error("{0} is being deleted; create it again when it is gone")]
    Deleting(ObjectName),
    /// A setting cannot have its value.
    #[error("{0}")]
    Invalid(FieldError),
    /// The project has too little left of something.
    #[error(
        "the project {project} may have {most} {what}, and would have {wanted}; delete some, or ask for a larger quota"
    )]
    Quota {
        /// The project.
        project: ObjectName,
        /// What there is too little of.
        what: &'static str,
        /// How much the project may have.
        most: String,
        /// How much it would have.
        wanted: String,
    },
    /// The project is not empty.
    #[error(
        "the project {project} has {}; delete them first, or order the deletion with all that is in it",
        contents(balancers, subnets)
    )]
    NotEmpty {
        /// The project.
        project: ObjectName,
        /// The load balancers that would go with it.
        balancers: Vec<String>,
        /// The subnets that would.
        subnets: Vec<String>,
    },
    /// Something is in the subnet.
    #[error("the load balancers {} are in the subnet {subnet}; move or delete them first, or order the deletion with all that is in it", balancers.join(", "))]
    SubnetInUse {
        /// The subnet.
        subnet: ObjectName,
        /// What would go with it.
        balancers: Vec<String>,
    },
    /// The subnet has too few addresses left.
    #[error(
        "the subnet {subnet} has no {count} addresses in a row left of {range}; move or delete load balancers that are in it, or widen its `range`"
    )]
    NoSubnetAddresses {
        /// The subnet.
        subnet: ObjectName,
        /// How many are wanted, one for each node that there may be.
        count: u32,
        /// Those that it gives.
        range: AddressRange,
    },
    /// All addresses are taken.
    #[error("all addresses are taken; delete load balancers, or have the operator widen `{0}`")]
    NoAddresses(&'static str),
    /// Load balancers with nodes of their own cannot be created here.
    #[error(
        "this controller makes no load balancers with nodes of their own: its operator has to give it `[nodes]` in its configuration file"
    )]
    NoNodes,
    /// Shared load balancers cannot be created here.
    #[error(
        "this controller makes no shared load balancers: its operator has to give it `[shared]` in its configuration file"
    )]
    NoShared,
}

/// What is in a project, in words.
fn contents(balancers: &[String], subnets: &[String]) -> String {
    let kinds = [("the load balancers", balancers), ("the subnets", subnets)];
    let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    let kinds: Vec<String> = kinds
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    kinds.join(" and ")
}

/// What a change of the settings of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Each entry replaces the setting of its name (RFC 7396).
    Patch,
    /// All settings are replaced; those that are not given have their defaults.
    Replace,
}

/// All projects and load balancers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registry {
    /// Projects by id.
    projects: BTreeMap<u64, ProjectRecord>,
    /// Load balancers by id.
    balancers: BTreeMap<u64, Arc<BalancerRecord>>,
    /// Subnets by id.
    subnets: BTreeMap<u64, SubnetRecord>,
    /// What pools of environments may take.
    guests: BTreeMap<PoolName, Guest>,
    /// Addresses of subnets that others than load balancers have, by the subnet's id.
    reserved: BTreeMap<u64, Vec<AddressRange>>,
    /// The last id that was given out.
    last_id: u64,
}

impl Registry {
    /// Takes up what is stored.
    #[must_use]
    pub fn restored(
        projects: Vec<ProjectRecord>,
        balancers: Vec<BalancerRecord>,
        last_id: u64,
    ) -> Self {
        let projects: BTreeMap<_, _> = projects.into_iter().map(|one| (one.id, one)).collect();
        let balancers = balancers.into_iter().map(Arc::new);
        let balancers: BTreeMap<_, _> = balancers.map(|one| (one.id, one)).collect();
        let ids = projects.keys().chain(balancers.keys()).copied();
        let last_id = ids.fold(last_id, u64::max);
        Registry {
            projects,
            balancers,
            subnets: BTreeMap::new(),
            guests: BTreeMap::new(),
            reserved: BTreeMap::new(),
            last_id,
        }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn read(stored: &Stored) -> Result<Self, Unreadable> {
        let record = |(_, record)| record;
        Ok(Self::restored(
            stored.all()?.into_iter().map(record).collect(),
            stored.all()?.into_iter().map(|(_, one)| one).collect(),
            stored.counter(Counter::LAST_ID)?.unwrap_or(0),
        )
        .with_subnets(stored.all()?.into_iter().map(|(_, one)| one).collect()))
    }

    /// Whether there is nothing, and never was.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last_id == 0
    }

    /// The last id that was given out.
    #[must_use]
    pub const fn last_id(&self) -> u64 {
        self.last_id
    }

    /// All projects.
    pub fn projects(&self) -> impl Iterator<Item = &ProjectRecord> {
        self.projects.values()
    }

    /// All load balancers.
    pub fn balancers(&self) -> impl Iterator<Item = &Arc<BalancerRecord>> {
        self.balancers.values()
    }

    /// The ids of those that are shared.
    pub fn shared(&self) -> impl Iterator<Item = u64> {
        let is_shared = |record: &&Arc<BalancerRecord>| {
            let spec = BalancerSpec::read(&record.spec, KINDS.probes);
            spec.is_ok_and(|spec| spec.kind == BalancerKind::Shared)
        };
        self.balancers().filter(is_shared).map(|record| record.id)
    }

    /// The load balancers of a project.
    pub fn balancers_of(&self, project: u64) -> impl Iterator<Item = &BalancerRecord> {
        let all = self.balancers.values().map(|one| &**one);
        all.filter(move |one| one.project == project)
    }

    /// A project.
    ///
    /// # Errors
    /// There is none.
    pub fn project(&self, key: &Key) -> Result<&ProjectRecord, Refusal> {
        match key {
            Key::Id(id) => self.projects.get(id),
            Key::Name(name) => self.projects.values().find(|one| one.name == *name),
        }
        .ok_or_else(|| Refusal::NoProject(key.clone()))
    }

    /// A project that is not being deleted.
    fn open_project(&self, key: &Key) -> Result<&ProjectRecord, Refusal> {
        let project = self.project(key)?;
        if project.is_deleted {
            return Err(Refusal::Deleting(project.name.clone()));
        }
        Ok(project)
    }

    /// The project of a load balancer.
    #[must_use]
    pub fn project_of(&self, balancer: &BalancerRecord) -> Option<&ProjectRecord> {
        self.projects.get(&balancer.project)
    }

    /// A load balancer of a project.
    ///
    /// # Errors
    /// There is none, or it is another project's.
    pub fn balancer(&self, project: &ProjectRecord, key: &Key) -> Result<&BalancerRecord, Refusal> {
        let found = match key {
            Key::Id(id) => self.balancer_by_id(*id),
            Key::Name(name) => self.balancers_of(project.id).find(|one| one.name == *name),
        };
        found
            .filter(|one| one.project == project.id)
            .ok_or_else(|| Refusal::NoBalancer(key.clone(), project.name.clone()))
    }

    /// A load balancer of any project, by its id.
    #[must_use]
    pub fn balancer_by_id(&self, id: u64) -> Option<&BalancerRecord> {
        self.balancers.get(&id).map(|one| &**one)
    }

    /// A new project.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new_project(
        &self,
        name: ObjectName,
        settings: &Map<String, Value>,
        now: Duration,
    ) -> Result<ProjectRecord, Refusal> {
        let spec: ProjectSpec = from_map(settings).map_err(Refusal::Invalid)?;
        if let Some(other) = self.projects.values().find(|one| one.name == name) {
            return Err(if other.is_deleted {
                Refusal::Deleting(name)
            } else {
                Refusal::ProjectExists(name)
            });
        }
        Ok(ProjectRecord {
            id: self.last_id + 1,
            name,
            generation: 1,
            created: now,
            spec: spec.to_map(),
            is_deleted: false,
        })
    }

    /// A project with other settings.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn changed_project(
        &self,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
        making: &Making,
    ) -> Result<ProjectRecord, Refusal> {
        let before = self.open_project(key)?;
        let spec: ProjectSpec =
            from_map(&updated(&before.spec, settings, update)).map_err(Refusal::Invalid)?;
        self.check_quota(before, &spec.quota, making)?;
        self.check_subnets_of(before, &spec)?;
        Ok(changed(before, &before.spec, spec.to_map(), |spec| {
            ProjectRecord {
                generation: before.generation + 1,
                spec,
                ..before.clone()
            }
        }))
    }

    /// The load balancers and subnets that go with a project; it goes when they have gone.
    ///
    /// # Errors
    /// [`Refusal::NotEmpty`] unless `everything` may go.
    pub fn deleted_project(
        &self,
        key: &Key,
        everything: bool,
    ) -> Result<(ProjectRecord, Vec<BalancerRecord>, Vec<SubnetRecord>), Refusal> {
        let project = self.project(key)?;
        let balancers: Vec<&BalancerRecord> = self.balancers_of(project.id).collect();
        let subnets: Vec<&SubnetRecord> = self.subnets_of(project.id).collect();
        let is_empty =
            balancers.iter().all(|one| one.is_deleted) && subnets.iter().all(|one| one.is_deleted);
        if !everything && !is_empty {
            return Err(Refusal::NotEmpty {
                project: project.name.clone(),
                balancers: balancers.iter().map(|one| one.name.to_string()).collect(),
                subnets: subnets.iter().map(|one| one.name.to_string()).collect(),
            });
        }
        let deleted = balancers.into_iter().map(deleted).collect();
        let subnets = subnets.into_iter().map(subnet::deleted_record).collect();
        let project = ProjectRecord {
            is_deleted: true,
            ..project.clone()
        };
        Ok((project, deleted, subnets))
    }

    /// A new load balancer.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new_balancer(
        &self,
        project: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
        making: &Making,
        now: Duration,
    ) -> Result<BalancerRecord, Refusal> {
        let project = self.open_project(project)?;
        let spec = BalancerSpec::read(settings, KINDS.probes).map_err(Refusal::Invalid)?;
        if let Some(other) = self.balancers_of(project.id).find(|one| one.name == name) {
            return Err(if other.is_deleted {
                Refusal::Deleting(name)
            } else {
                Refusal::BalancerExists(name, project.name.clone())
            });
        }
        let addresses = match spec.kind {
            BalancerKind::Node => {
                let nodes = making.nodes.as_ref().ok_or(Refusal::NoNodes)?;
                check_nodes(&spec, nodes.each)?;
                check_placement(&spec, nodes)?;
                self.free_addresses(&nodes.range, nodes.each, "nodes.range")?
            }
            BalancerKind::Agent => {
                let nodes = making.nodes.as_ref().ok_or(Refusal::NoNodes)?;
                if nodes.agent.is_none() {
                    let advice = "this controller makes no such nodes; have its operator give `[nodes.agent]` in the configuration file";
                    return Err(Refusal::Invalid(FieldError::new("kind", spec.kind, advice)));
                }
                check_nodes(&spec, nodes.each)?;
                // Each node has an address of its own besides the one that clients use.
                self.free_addresses(&nodes.range, 2 * nodes.each, "nodes.range")?
            }
            BalancerKind::Shared => {
                let shared = making.shared.as_ref().ok_or(Refusal::NoShared)?;
                self.free_addresses(&shared.range, 1, "shared.range")?
            }
        };
        let mut record = BalancerRecord {
            id: self.last_id + 1,
            project: project.id,
            name,
            generation: 1,
            created: now,
            spec: spec.to_map(),
            addresses,
            leg: None,
            former_legs: Vec::new(),
            is_deleted: false,
        };
        self.settle(&mut record, spec.subnet.as_ref(), making.nodes.as_ref())?;
        self.check_quota_with(project, &record, making)?;
        Ok(record)
    }

    /// A load balancer with other settings.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn changed_balancer(
        &self,
        project: &Key,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
        making: &Making,
    ) -> Result<BalancerRecord, Refusal> {
        let project = self.project(project)?;
        let before = self.balancer(project, key)?;
        if before.is_deleted {
            return Err(Refusal::Deleting(before.name.clone()));
        }
        let spec = updated(&before.spec, settings, update);
        let spec = BalancerSpec::read(&spec, KINDS.probes).map_err(Refusal::Invalid)?;
        let kind = BalancerSpec::read(&before.spec, KINDS.probes).map(|spec| spec.kind);
        if kind.is_ok_and(|kind| kind != spec.kind) {
            let advice = "it stays as it was created; create another load balancer";
            return Err(Refusal::Invalid(FieldError::new("kind", spec.kind, advice)));
        }
        let room = node::addresses(before, &spec).of_clients.len();
        check_nodes(&spec, u32::try_from(room).unwrap_or(u32::MAX))?;
        if let Some(nodes) = &making.nodes {
            check_placement(&spec, nodes)?;
        }
        let subnet = spec.subnet.clone();
        let mut record = changed(before, &before.spec, spec.to_map(), |spec| BalancerRecord {
            generation: before.generation + 1,
            spec,
            ..before.clone()
        });
        self.settle(&mut record, subnet.as_ref(), making.nodes.as_ref())?;
        self.check_quota_with(project, &record, making)?;
        Ok(record)
    }

    /// A load balancer that is being deleted.
    ///
    /// # Errors
    /// There is none.
    pub fn deleted_balancer(&self, project: &Key, key: &Key) -> Result<BalancerRecord, Refusal> {
        let project = self.project(project)?;
        self.balancer(project, key).map(deleted)
    }

    /// The first addresses of a range, so many, that no load balancer has.
    fn free_addresses(
        &self,
        range: &AddressRange,
        each: u32,
        setting: &'static str,
    ) -> Result<AddressRange, Refusal> {
        // No two of them have addresses in common, so the last that begins before the end of a part is the one that may be in it.
        let taken = self.balancers.values().map(|one| &one.addresses);
        let taken: BTreeMap<IpAddr, &AddressRange> =
            taken.map(|range| (range.first(), range)).collect();
        let count = range.len() / u128::from(each);
        let free = (0..count).find_map(|at| {
            let first = u32::try_from(at).ok()?.checked_mul(each)?.checked_add(1)?;
            let part = range.part(first, each)?;
            let before = taken.range(..=part.last()).next_back();
            before
                .is_none_or(|(_, before)| !before.overlaps(&part))
                .then_some(part)
        });
        free.ok_or(Refusal::NoAddresses(setting))
    }

    /// Takes a record in the place of the one with its id.
    pub fn put_project(&mut self, record: ProjectRecord) {
        self.last_id = self.last_id.max(record.id);
        self.projects.insert(record.id, record);
    }

    /// Takes a record in the place of the one with its id.
    pub fn put_balancer(&mut self, record: BalancerRecord) {
        self.last_id = self.last_id.max(record.id);
        self.balancers.insert(record.id, Arc::new(record));
    }

    /// Forgets a project.
    pub fn remove_project(&mut self, id: u64) {
        self.projects.remove(&id);
    }

    /// Forgets a load balancer.
    pub fn remove_balancer(&mut self, id: u64) {
        self.balancers.remove(&id);
    }
}

/// The settings after an order.
fn updated(
    before: &Map<String, Value>,
    settings: &Map<String, Value>,
    update: Update,
) -> Map<String, Value> {
    match update {
        Update::Patch => merged(before, settings),
        Update::Replace => settings.clone(),
    }
}

/// A record with other settings; one whose settings are the same stays as it is.
fn changed<R: Clone>(
    before: &R,
    old: &Map<String, Value>,
    new: Map<String, Value>,
    with: impl FnOnce(Map<String, Value>) -> R,
) -> R {
    if *old == new {
        before.clone()
    } else {
        with(new)
    }
}

fn deleted(before: &BalancerRecord) -> BalancerRecord {
    BalancerRecord {
        is_deleted: true,
        ..before.clone()
    }
}

fn check_nodes(spec: &BalancerSpec, room: u32) -> Result<(), Refusal> {
    if spec.most_nodes() <= room {
        return Ok(());
    }
    let field = if spec.auto_scaling {
        "max_nodes"
    } else {
        "nodes"
    };
    let advice =
        format!("a load balancer has addresses for {room} nodes here; give {room} or less");
    Err(Refusal::Invalid(FieldError::new(
        field,
        spec.most_nodes(),
        advice,
    )))
}

/// Whether nodes can be placed as a load balancer says.
fn check_placement(spec: &BalancerSpec, nodes: &NodeSettings) -> Result<(), Refusal> {
    if spec.placement.is_none() || nodes.check_claim().is_ok() {
        return Ok(());
    }
    let advice = "hosts are chosen by what they have left; have the operator give `cpu` and `memory` in `[nodes]` of the configuration file";
    Err(Refusal::Invalid(FieldError::new(
        "placement",
        "given",
        advice,
    )))
}
