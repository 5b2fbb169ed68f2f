//! The zone: which addresses each name has.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, NS, SOA},
};
use lb_model::{
    dns::{Addresses, DnsSpec, DomainName, Label, RecordName, check_addresses},
    settings::FieldError,
};

use crate::Serial;

/// The names of one project.
type Project = BTreeMap<Label, Arc<[IpAddr]>>;

/// A zone: the names `LB.PROJECT.ZONE` with their addresses, the zone's own records and those of its name servers.
///
/// A clone shares what it does not change, so that a change costs one project's names, not all.
#[derive(Clone, Debug)]
pub struct Zone {
    facts: Arc<Facts>,
    serial: Serial,
    /// A project without a name is not in it: its own name would exist (RFC 8020).
    projects: BTreeMap<Label, Arc<Project>>,
}

/// What settings say about the zone.
#[derive(Debug, PartialEq)]
struct Facts {
    zone: DomainName,
    origin: Name,
    primary: Name,
    contact: Name,
    name_servers: Vec<(Name, Vec<IpAddr>)>,
    ttl: u32,
    negative_ttl: u32,
    refresh: i32,
    retry: i32,
    expire: i32,
}

/// What a zone has at a name.
#[derive(Debug, PartialEq)]
pub enum Lookup {
    /// These records; for name servers also their addresses.
    Records {
        /// The records, in the order of the addresses.
        answers: Vec<Record>,
        /// Addresses of name servers.
        additionals: Vec<Record>,
    },
    /// The name exists and has no record of this type. The record is for the authority section (RFC 2308).
    NoData(Record),
    /// The name does not exist.
    NoName(Record),
    /// The name is not in the zone.
    Foreign,
}

/// What a name is in the zone.
enum Place<'a> {
    Apex,
    NameServer(&'a [IpAddr]),
    /// It has no record, and a name below it has (RFC 4592 section 2.2.2).
    Empty,
    Balancer(&'a [IpAddr]),
    Nothing,
    Foreign,
}

impl Zone {
    /// Makes an empty zone with a serial number, that of the last zone's or a later one.
    #[must_use]
    pub fn new(spec: &DnsSpec, serial: Serial) -> Self {
        Zone {
            facts: Arc::new(Facts::new(spec)),
            serial,
            projects: BTreeMap::new(),
        }
    }

    /// Returns the serial number, for the caller to store: a zone that begins again must not go back.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Returns the name of the zone.
    #[must_use]
    pub fn name(&self) -> &DomainName {
        &self.facts.zone
    }

    /// Takes other settings and returns whether they change a record.
    pub fn configure(&mut self, spec: &DnsSpec) -> bool {
        let facts = Facts::new(spec);
        if *self.facts == facts {
            return false;
        }
        self.facts = Arc::new(facts);
        self.serial = self.serial.next();
        true
    }

    /// Takes a serial number if it is later than the zone's, and returns whether it is.
    pub fn advance(&mut self, serial: Serial) -> bool {
        let later = serial.is_later_than(self.serial);
        if later {
            self.serial = serial;
        }
        later
    }

    /// Sets the addresses of a name and returns whether they are others than before. A name without addresses does not
    /// exist.
    ///
    /// # Errors
    /// Returns the address that no client could use, or the number if there are too many. Then nothing has changed.
    pub fn set(&mut self, name: &RecordName, addresses: &Addresses) -> Result<bool, FieldError> {
        check_addresses(addresses).map_err(|error| error.within(name))?;
        let changed = self.change(name, addresses);
        if changed {
            self.serial = self.serial.next();
        }
        Ok(changed)
    }

    /// Removes a name and returns whether it existed.
    pub fn remove(&mut self, name: &RecordName) -> bool {
        let changed = self.change(name, &Addresses::new());
        if changed {
            self.serial = self.serial.next();
        }
        changed
    }

    /// Makes these the names of the zone, all at once, and returns whether anything has changed.
    ///
    /// # Errors
    /// See [`Zone::set`].
    pub fn replace(&mut self, names: &BTreeMap<RecordName, Addresses>) -> Result<bool, FieldError> {
        for (name, addresses) in names {
            check_addresses(addresses).map_err(|error| error.within(name))?;
        }
        let gone: Vec<RecordName> = self
            .names()
            .map(|(name, _)| name)
            .filter(|name| !names.contains_key(name))
            .collect();
        let mut changed = false;
        for name in &gone {
            changed |= self.change(name, &Addresses::new());
        }
        for (name, addresses) in names {
            changed |= self.change(name, addresses);
        }
        if changed {
            self.serial = self.serial.next();
        }
        Ok(changed)
    }

    fn change(&mut self, name: &RecordName, addresses: &Addresses) -> bool {
        let before = self.addresses(name).unwrap_or_default();
        if before.iter().eq(addresses) {
            return false;
        }
        match self.projects.entry(name.project.clone()) {
            Entry::Occupied(mut entry) if addresses.is_empty() => {
                let project = Arc::make_mut(entry.get_mut());
                project.remove(&name.balancer);
                if project.is_empty() {
                    entry.remove();
                }
            }
            entry => {
                let project = Arc::make_mut(entry.or_default());
                project.insert(name.balancer.clone(), addresses.iter().copied().collect());
            }
        }
        true
    }

    /// Returns the addresses of a name, in their order.
    #[must_use]
    pub fn addresses(&self, name: &RecordName) -> Option<&[IpAddr]> {
        let project = self.projects.get(&name.project)?;
        project.get(&name.balancer).map(|addresses| &**addresses)
    }

    /// Returns all names with their addresses, by project.
    pub fn names(&self) -> impl Iterator<Item = (RecordName, &[IpAddr])> {
        self.projects.iter().flat_map(|(project, balancers)| {
            balancers.iter().map(|(balancer, addresses)| {
                let name = RecordName {
                    project: project.clone(),
                    balancer: balancer.clone(),
                };
                (name, &**addresses)
            })
        })
    }

    /// Returns what the zone has at a name. Names compare without regard to case, and the records have the name as it was
    /// asked for.
    #[must_use]
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Lookup {
        let facts = &*self.facts;
        let mut answers = Vec::new();
        let mut additionals = Vec::new();
        match self.place(name) {
            Place::Foreign => return Lookup::Foreign,
            Place::Nothing => return Lookup::NoName(self.negative_soa()),
            Place::Empty => {}
            Place::Apex => match kind {
                // A query for anything gets one set of records (RFC 8482 section 4.1).
                RecordType::SOA | RecordType::ANY => answers.push(self.soa_at(name)),
                RecordType::NS => {
                    for (server, addresses) in &facts.name_servers {
                        let data = RData::NS(NS(server.clone()));
                        answers.push(Record::from_rdata(name.clone(), facts.ttl, data));
                        additionals.extend(facts.address_records(server, addresses, None));
                    }
                }
                _ => {}
            },
            Place::NameServer(addresses) | Place::Balancer(addresses) => match kind {
                RecordType::A | RecordType::AAAA => {
                    answers.extend(facts.address_records(name, addresses, Some(kind)));
                }
                RecordType::ANY => {
                    let one = match addresses.first() {
                        Some(IpAddr::V6(_)) => RecordType::AAAA,
                        _ => RecordType::A,
                    };
                    answers.extend(facts.address_records(name, addresses, Some(one)));
                }
                _ => {}
            },
        }
        if answers.is_empty() {
            return Lookup::NoData(self.negative_soa());
        }
        Lookup::Records {
            answers,
            additionals,
        }
    }

    fn place(&self, name: &Name) -> Place<'_> {
        let facts = &*self.facts;
        if !facts.origin.zone_of(name) {
            return Place::Foreign;
        }
        let depth = usize::from(name.num_labels() - facts.origin.num_labels());
        let mut labels = [""; 2];
        let mut lower = [const { String::new() }; 2];
        if depth > labels.len() {
            return Place::Nothing;
        }
        for (position, label) in name.iter().take(depth).enumerate() {
            let Ok(text) = std::str::from_utf8(label) else {
                return Place::Nothing;
            };
            // Most queries come in lower case, some with the case of each letter at random.
            labels[position] = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                lower[position] = text.to_ascii_lowercase();
                ""
            } else {
                text
            };
        }
        let label = |position: usize| match labels[position] {
            "" => lower[position].as_str(),
            label => label,
        };
        match depth {
            0 => Place::Apex,
            1 => {
                let server = facts.name_servers.iter().find(|(server, _)| server == name);
                match server {
                    Some((_, addresses)) => Place::NameServer(addresses),
                    None if self.projects.contains_key(label(0)) => Place::Empty,
                    None => Place::Nothing,
                }
            }
            _ => self
                .projects
                .get(label(1))
                .and_then(|project| project.get(label(0)))
                .map_or(Place::Nothing, |addresses| Place::Balancer(addresses)),
        }
    }

    /// Returns the zone's own record.
    #[must_use]
    pub fn soa(&self) -> Record {
        self.soa_at(&self.facts.origin)
    }

    fn soa_at(&self, name: &Name) -> Record {
        let facts = &*self.facts;
        let data = SOA::new(
            facts.primary.clone(),
            facts.contact.clone(),
            self.serial.get(),
            facts.refresh,
            facts.retry,
            facts.expire,
            facts.negative_ttl,
        );
        Record::from_rdata(name.clone(), facts.ttl, RData::SOA(data))
    }

    /// Returns the record that says how long the answer that there is nothing may be kept.
    fn negative_soa(&self) -> Record {
        let mut soa = self.soa();
        soa.ttl = soa.ttl.min(self.facts.negative_ttl);
        soa
    }

    /// Returns all records, as a transfer has them: the zone's own record is the first and the last (RFC 5936 section 2.2).
    pub fn transfer(&self) -> impl Iterator<Item = Record> + '_ {
        let facts = &*self.facts;
        let servers = facts.name_servers.iter().flat_map(|(server, addresses)| {
            let data = RData::NS(NS(server.clone()));
            let record = Record::from_rdata(facts.origin.clone(), facts.ttl, data);
            std::iter::once(record).chain(facts.address_records(server, addresses, None))
        });
        let balancers = self.names().flat_map(|(name, addresses)| {
            let name = facts.full_name(&name);
            facts
                .address_records(&name, addresses, None)
                .collect::<Vec<_>>()
        });
        std::iter::once(self.soa())
            .chain(servers)
            .chain(balancers)
            .chain(std::iter::once(self.soa()))
    }
}

impl Facts {
    fn new(spec: &DnsSpec) -> Self {
        let origin = name_of(&spec.zone);
        let name_servers: Vec<_> = spec
            .name_servers
            .iter()
            .map(|(name, addresses)| (name_of(name), addresses.clone()))
            .collect();
        let primary = name_servers
            .first()
            .map_or_else(|| origin.clone(), |(name, _)| name.clone());
        let contact = match &spec.contact {
            Some(contact) => name_of(contact),
            None => below("hostmaster", &origin),
        };
        let timer = |time: Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        Facts {
            zone: spec.zone.clone(),
            origin,
            primary,
            contact,
            name_servers,
            ttl: seconds(spec.ttl),
            negative_ttl: seconds(spec.negative_ttl),
            refresh: timer(spec.refresh),
            retry: timer(spec.retry),
            expire: timer(spec.expire),
        }
    }

    fn full_name(&self, name: &RecordName) -> Name {
        name_of(&name.in_zone(&self.zone))
    }

    /// Returns the records of addresses, all or those of one type.
    fn address_records(
        &self,
        name: &Name,
        addresses: &[IpAddr],
        kind: Option<RecordType>,
    ) -> impl Iterator<Item = Record> {
        addresses
            .iter()
            .map(|address| address_record(name, self.ttl, *address))
            .filter(move |record| kind.is_none_or(|kind| record.record_type() == kind))
    }
}

/// Returns the record of an address.
pub(crate) fn address_record(name: &Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// Returns whole seconds.
pub(crate) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Returns a name in the form of messages.
pub(crate) fn name_of(domain: &DomainName) -> Name {
    let mut name = Name::from_ascii(domain.as_str())
        .expect("the labels and the length of a domain name are checked");
    name.set_fqdn(true);
    name
}

/// Returns the name with another label in front.
pub(crate) fn below(label: &str, name: &Name) -> Name {
    name.prepend_label(label)
        .expect("a zone's length leaves room for the labels in front of it")
}

#[cfg(test)]
pub(crate) mod tests;
