//! Subnets: orders about them, and the addresses that load balancers have in them.
//!
//! Which addresses are given follows from the records of those who have them, so none is given twice, and none is forgotten.

use std::{collections::BTreeMap, time::Duration};

use lb_model::{
    pool::AddressRange,
    project::{ObjectName, ProjectSpec, SubnetSpec},
    settings::{FieldError, Map, Settings as _, Value, from_map},
};

use super::{
    BalancerRecord, Key, LegRecord, NodeSettings, ProjectRecord, Refusal, Registry, SubnetRecord,
    Update, changed, deleted, updated,
};

/// Addresses of a subnet that somebody has.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder<'a> {
    /// The load balancer.
    pub balancer: &'a BalancerRecord,
    /// The addresses.
    pub addresses: AddressRange,
    /// Whether it only had them, and some of its nodes may still have them.
    pub is_former: bool,
}

impl SubnetRecord {
    /// Its settings.
    ///
    /// # Errors
    /// It has others than it can have; what is stored was checked.
    pub fn settings(&self) -> Result<SubnetSpec, FieldError> {
        from_map(&self.spec)
    }
}

impl Registry {
    /// These subnets, too.
    #[must_use]
    pub fn with_subnets(mut self, subnets: Vec<SubnetRecord>) -> Self {
        for subnet in subnets {
            self.put_subnet(subnet);
        }
        self
    }

    /// All subnets.
    pub fn subnets(&self) -> impl Iterator<Item = &SubnetRecord> {
        self.subnets.values()
    }

    /// The subnets of a project.
    pub fn subnets_of(&self, project: u64) -> impl Iterator<Item = &SubnetRecord> {
        self.subnets().filter(move |one| one.project == project)
    }

    /// A subnet of any project, by its id.
    #[must_use]
    pub fn subnet_by_id(&self, id: u64) -> Option<&SubnetRecord> {
        self.subnets.get(&id)
    }

    /// A subnet of a project.
    ///
    /// # Errors
    /// There is none, or it is another project's.
    pub fn subnet(&self, project: &ProjectRecord, key: &Key) -> Result<&SubnetRecord, Refusal> {
        let found = match key {
            Key::Id(id) => self.subnets.get(id),
            Key::Name(name) => self.subnets_of(project.id).find(|one| one.name == *name),
        };
        found
            .filter(|one| one.project == project.id)
            .ok_or_else(|| Refusal::NoSubnet(key.clone(), project.name.clone()))
    }

    /// Who has addresses of a subnet.
    pub fn holders(&self, subnet: u64) -> impl Iterator<Item = Holder<'_>> {
        self.balancers().flat_map(move |balancer| {
            let now = balancer.leg.iter().map(|leg| (leg, false));
            let legs = now.chain(balancer.former_legs.iter().map(|leg| (leg, true)));
            let own = legs.filter(move |(leg, _)| leg.subnet == subnet);
            own.map(move |(leg, is_former)| Holder {
                balancer,
                addresses: leg.addresses,
                is_former,
            })
        })
    }

    /// A new subnet.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new_subnet(
        &self,
        project: &Key,
        name: ObjectName,
        settings: &Map<String, Value>,
        now: Duration,
    ) -> Result<SubnetRecord, Refusal> {
        let project = self.open_project(project)?;
        let spec: SubnetSpec = from_map(settings).map_err(Refusal::Invalid)?;
        if let Some(other) = self.subnets_of(project.id).find(|one| one.name == name) {
            return Err(if other.is_deleted {
                Refusal::Deleting(name)
            } else {
                Refusal::SubnetExists(name, project.name.clone())
            });
        }
        let record = SubnetRecord {
            id: self.last_id() + 1,
            project: project.id,
            name,
            generation: 1,
            created: now,
            spec: spec.to_map(),
            is_deleted: false,
        };
        self.check_subnet(&record, &spec)?;
        // What is stored was checked.
        let quota = from_map::<ProjectSpec>(&project.spec).map_err(Refusal::Invalid)?;
        self.check_subnets(&project.name, &quota, self.open_subnets(project.id) + 1)?;
        Ok(record)
    }

    /// A subnet with other settings.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn changed_subnet(
        &self,
        project: &Key,
        key: &Key,
        settings: &Map<String, Value>,
        update: Update,
    ) -> Result<SubnetRecord, Refusal> {
        let before = self.open_subnet(self.project(project)?, key)?;
        let spec: SubnetSpec =
            from_map(&updated(&before.spec, settings, update)).map_err(Refusal::Invalid)?;
        let old = before.settings().map_err(Refusal::Invalid)?;
        if spec.cidr != old.cidr {
            let advice = format!(
                "a subnet keeps its addresses, {}; add another subnet",
                old.cidr
            );
            return Err(Refusal::Invalid(FieldError::new("cidr", spec.cidr, advice)));
        }
        let given = spec.given();
        for holder in self.holders(before.id) {
            let (addresses, name) = (holder.addresses, &holder.balancer.name);
            if !given.contains(addresses.first()) || !given.contains(addresses.last()) {
                let advice = format!(
                    "the load balancer {name} has {addresses}; give a range with these, or move it first"
                );
                return Err(Refusal::Invalid(FieldError::new("range", given, advice)));
            }
        }
        let record = changed(before, &before.spec, spec.to_map(), |spec| SubnetRecord {
            generation: before.generation + 1,
            spec,
            ..before.clone()
        });
        self.check_subnet(&record, &spec)?;
        Ok(record)
    }

    /// A subnet that is being deleted, and the load balancers that go with it; it goes when they have gone.
    ///
    /// # Errors
    /// [`Refusal::SubnetInUse`] unless `everything` may go.
    pub fn deleted_subnet(
        &self,
        project: &Key,
        key: &Key,
        everything: bool,
    ) -> Result<(SubnetRecord, Vec<BalancerRecord>), Refusal> {
        let subnet = self.subnet(self.project(project)?, key)?;
        let users = self.holders(subnet.id).filter(|one| !one.is_former);
        let users: Vec<_> = users.map(|one| one.balancer).collect();
        let in_use = users.iter().filter(|one| !one.is_deleted);
        let in_use: Vec<String> = in_use.map(|one| one.name.to_string()).collect();
        if !everything && !in_use.is_empty() {
            return Err(Refusal::SubnetInUse {
                subnet: subnet.name.clone(),
                balancers: in_use,
            });
        }
        let balancers = users.into_iter().map(deleted).collect();
        Ok((deleted_record(subnet), balancers))
    }

    /// Whether nobody has an address of a subnet any more.
    #[must_use]
    pub fn is_unused(&self, subnet: u64) -> bool {
        self.holders(subnet).next().is_none()
    }

    /// Gives a load balancer addresses in the subnet that it is to be in. Those of a subnet that it leaves stay its own until its
    /// nodes are replaced.
    pub(super) fn settle(
        &self,
        record: &mut BalancerRecord,
        wanted: Option<&ObjectName>,
        nodes: Option<&NodeSettings>,
    ) -> Result<(), Refusal> {
        let subnet = match wanted {
            None => None,
            Some(name) => {
                let project = self.project(&Key::Id(record.project))?;
                let found = self.open_subnet(project, &Key::Name(name.clone()));
                Some(found.map_err(|refusal| of_field(name, &refusal))?)
            }
        };
        if record.leg.as_ref().map(|leg| leg.subnet) == subnet.map(|one| one.id) {
            return Ok(());
        }
        record.former_legs.extend(record.leg.take());
        let Some(subnet) = subnet else {
            return Ok(());
        };
        let spec = subnet.settings().map_err(Refusal::Invalid)?;
        if let Some(nodes) = nodes {
            check_apart(&subnet.name, &spec, nodes)?;
        }
        // It returns.
        let is_it = |leg: &LegRecord| leg.subnet == subnet.id;
        if let Some(at) = record.former_legs.iter().position(is_it) {
            record.leg = Some(record.former_legs.remove(at));
            return Ok(());
        }
        let count = u32::try_from(record.addresses.len()).unwrap_or(u32::MAX);
        record.leg = Some(LegRecord {
            subnet: subnet.id,
            addresses: self.free_part(subnet, &spec, count)?,
        });
        Ok(())
    }

    /// A load balancer whose nodes have left the subnets that it was in before; `None` if there are none.
    #[must_use]
    pub fn released(&self, balancer: u64) -> Option<BalancerRecord> {
        let before = self.balancer_by_id(balancer)?;
        (!before.former_legs.is_empty()).then(|| BalancerRecord {
            former_legs: Vec::new(),
            ..before.clone()
        })
    }

    /// The first addresses of a subnet, so many in a row, that nobody has.
    fn free_part(
        &self,
        subnet: &SubnetRecord,
        spec: &SubnetSpec,
        count: u32,
    ) -> Result<AddressRange, Refusal> {
        let given = spec.given();
        let held = self.holders(subnet.id).map(|one| one.addresses);
        let reserved = self.reserved.get(&subnet.id).into_iter().flatten().copied();
        let ours = held.chain(reserved).filter(|one| one.overlaps(&given));
        // Those of others may reach beyond.
        let mut taken: Vec<(u32, u32)> = ours
            .map(|one| {
                let first = given.number_of(one.first()).unwrap_or(1);
                (first, given.number_of(one.last()).unwrap_or(u32::MAX))
            })
            .collect();
        taken.sort_unstable();
        let mut next = 1;
        for (first, last) in taken {
            if first.saturating_sub(next) >= count {
                break;
            }
            next = next.max(last.saturating_add(1));
        }
        given
            .part(next, count)
            .ok_or_else(|| Refusal::NoSubnetAddresses {
                subnet: subnet.name.clone(),
                count,
                range: given,
            })
    }

    /// A subnet that is not being deleted.
    fn open_subnet(&self, project: &ProjectRecord, key: &Key) -> Result<&SubnetRecord, Refusal> {
        let subnet = self.subnet(project, key)?;
        if subnet.is_deleted {
            return Err(Refusal::Deleting(subnet.name.clone()));
        }
        Ok(subnet)
    }

    /// How many subnets a project has that are not being deleted.
    fn open_subnets(&self, project: u64) -> usize {
        let open = self.subnets_of(project).filter(|one| !one.is_deleted);
        open.count()
    }

    /// Checks the quota of subnets.
    pub(super) fn check_subnets(
        &self,
        project: &ObjectName,
        spec: &ProjectSpec,
        wanted: usize,
    ) -> Result<(), Refusal> {
        if wanted <= spec.quota.subnets as usize {
            return Ok(());
        }
        Err(Refusal::Quota {
            project: project.clone(),
            what: "subnets",
            most: spec.quota.subnets.to_string(),
            wanted: wanted.to_string(),
        })
    }

    /// Checks that a project with these settings may keep its subnets.
    pub(super) fn check_subnets_of(
        &self,
        project: &ProjectRecord,
        spec: &ProjectSpec,
    ) -> Result<(), Refusal> {
        self.check_subnets(&project.name, spec, self.open_subnets(project.id))
    }

    /// Checks a subnet against the others.
    fn check_subnet(&self, record: &SubnetRecord, spec: &SubnetSpec) -> Result<(), Refusal> {
        for other in self.subnets().filter(|one| one.id != record.id) {
            // What is stored was checked.
            let theirs = other.settings().map_err(Refusal::Invalid)?;
            let is_ours = other.project == record.project;
            let whose = if is_ours {
                format!("the subnet {}", other.name)
            } else {
                "a subnet of another project".to_owned()
            };
            let wrong = |field: &str, value: String, advice: String| {
                Err(Refusal::Invalid(FieldError::new(field, value, advice)))
            };
            if is_ours && spec.cidr.overlaps(&theirs.cidr) {
                let advice = format!("{whose} has {}; give other addresses", theirs.cidr);
                return wrong("cidr", spec.cidr.to_string(), advice);
            }
            if let (Some(gateway), Some(_)) = (spec.gateway, theirs.gateway)
                && spec.cidr.overlaps(&theirs.cidr)
            {
                let advice = format!(
                    "the host has an address in {whose} already whose addresses overlap, and could not tell the two apart; leave it out"
                );
                return wrong("gateway", gateway.to_string(), advice);
            }
            if let (Some(vxlan), Some(other)) = (&spec.vxlan, &theirs.vxlan)
                && vxlan.id == other.id
            {
                let advice = format!("{whose} has it; give another");
                return wrong("vxlan.id", vxlan.id.to_string(), advice);
            }
        }
        Ok(())
    }

    /// Takes note of the addresses that others than load balancers have in subnets, by the subnet's id.
    pub fn reserve(&mut self, reserved: BTreeMap<u64, Vec<AddressRange>>) {
        self.reserved = reserved;
    }

    /// Takes a record in the place of the one with its id.
    pub fn put_subnet(&mut self, record: SubnetRecord) {
        self.last_id = self.last_id.max(record.id);
        self.subnets.insert(record.id, record);
    }

    /// Forgets a subnet.
    pub fn remove_subnet(&mut self, id: u64) {
        self.subnets.remove(&id);
    }
}

/// A subnet that is being deleted.
pub(super) fn deleted_record(before: &SubnetRecord) -> SubnetRecord {
    SubnetRecord {
        is_deleted: true,
        ..before.clone()
    }
}

/// A subnet that a load balancer cannot be in, as the setting that is wrong.
fn of_field(name: &ObjectName, refusal: &Refusal) -> Refusal {
    Refusal::Invalid(FieldError::new("subnet", name, refusal.to_string()))
}

/// Checks that nodes can tell the network of all nodes from a subnet.
///
/// # Errors
/// They overlap.
pub fn check_apart(
    subnet: &ObjectName,
    spec: &SubnetSpec,
    nodes: &NodeSettings,
) -> Result<(), Refusal> {
    if !spec.given().shares_network(&nodes.range) {
        return Ok(());
    }
    let advice = format!(
        "its addresses {} overlap with those of the nodes' own network, {}, and a node could not tell the two apart; add a subnet with other addresses",
        spec.cidr,
        nodes.range.network()
    );
    Err(Refusal::Invalid(FieldError::new("subnet", subnet, advice)))
}
