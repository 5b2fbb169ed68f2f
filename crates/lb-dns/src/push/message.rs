//! The names beside those of load balancers, and the updates (RFC 2136 section 2).

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{PTR, TXT},
    },
};
use lb_model::dns::{Addresses, DomainName, Label, NAMES_LABEL, OWNER_LABEL, RecordName};

use crate::zone::{address_record, below, name_of};

/// Parts of the list of names. A message has room for about 500 names at the least, which are those of one part.
const PARTS: u32 = 64;

/// What this installation's records are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    zone: DomainName,
    /// The list is below this name.
    list: Name,
    /// The text of marks.
    mark: String,
    ttl: u32,
}

impl Names {
    pub(super) fn new(zone: &DomainName, owner: &Label, ttl: u32) -> Self {
        Names {
            zone: zone.clone(),
            list: below(owner.as_str(), &below(NAMES_LABEL, &name_of(zone))),
            mark: format!("lb-dns owner={owner}"),
            ttl,
        }
    }

    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Returns the text of the mark.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Returns the name of the mark of a name.
    pub(super) fn mark_name(&self, name: &Name) -> Name {
        below(OWNER_LABEL, name)
    }

    /// Returns the names of the list.
    pub(super) fn list_parts(&self) -> impl Iterator<Item = Name> {
        (0..PARTS).map(|part| below(&format!("{part:02}"), &self.list))
    }

    /// Returns which load balancer has this full name, if it is one of the zone.
    pub(super) fn record_name(&self, name: &Name) -> Option<RecordName> {
        let name: DomainName = name.to_ascii().parse().ok()?;
        name.below(&self.zone)?.parse().ok()
    }

    /// Makes a name that has neither a mark nor addresses nor an alias.
    pub(super) fn create(&self, zone: &Name, name: &RecordName, addresses: &Addresses) -> Message {
        let full = self.full(name);
        let mut update = begin(zone);
        let none = [
            (&full, RecordType::A),
            (&full, RecordType::AAAA),
            (&full, RecordType::CNAME),
            (&self.mark_name(&full), RecordType::TXT),
        ];
        // Section 2.4.3: the record set does not exist.
        update.add_answers(none.map(|(name, kind)| empty(name, kind, DNSClass::NONE)));
        update.add_authority(self.mark_record(&full, self.ttl));
        update.add_authority(self.list_record(name, DNSClass::IN, self.ttl));
        self.add_addresses(&mut update, &full, addresses);
        update
    }

    /// Replaces the addresses of a name that is ours.
    pub(super) fn change(&self, zone: &Name, name: &RecordName, addresses: &Addresses) -> Message {
        let full = self.full(name);
        let mut update = self.begin_for_own(zone, &full);
        // Section 2.5.2: delete a record set.
        update.add_authorities(addresses_of(&full));
        // The list may have lost it.
        update.add_authority(self.list_record(name, DNSClass::IN, self.ttl));
        self.add_addresses(&mut update, &full, addresses);
        update
    }

    /// Removes a name that is ours.
    pub(super) fn remove(&self, zone: &Name, name: &RecordName) -> Message {
        let full = self.full(name);
        let mut update = self.begin_for_own(zone, &full);
        update.add_authorities(addresses_of(&full));
        let mark = self.mark_name(&full);
        update.add_authority(empty(&mark, RecordType::TXT, DNSClass::ANY));
        update.add_authority(self.list_record(name, DNSClass::NONE, 0));
        update
    }

    /// Lists a name that is ours.
    pub(super) fn list(&self, zone: &Name, name: &RecordName) -> Message {
        let mut update = self.begin_for_own(zone, &self.full(name));
        update.add_authority(self.list_record(name, DNSClass::IN, self.ttl));
        update
    }

    /// Takes a name off the list, which is ours even if the name is not.
    pub(super) fn unlist(&self, zone: &Name, name: &RecordName) -> Message {
        let mut update = begin(zone);
        // Section 2.5.4: delete one record of a set.
        update.add_authority(self.list_record(name, DNSClass::NONE, 0));
        update
    }

    fn full(&self, name: &RecordName) -> Name {
        name_of(&name.in_zone(&self.zone))
    }

    /// Begins an update that is rejected unless the name has our mark.
    fn begin_for_own(&self, zone: &Name, full: &Name) -> Message {
        let mut update = begin(zone);
        // Section 2.4.2: the record set exists with these values.
        update.add_answer(self.mark_record(full, 0));
        update
    }

    fn mark_record(&self, full: &Name, ttl: u32) -> Record {
        let text = TXT::new(vec![self.mark.clone()]);
        Record::from_rdata(self.mark_name(full), ttl, RData::TXT(text))
    }

    fn list_record(&self, name: &RecordName, class: DNSClass, ttl: u32) -> Record {
        let full = self.full(name);
        let part = below(&format!("{:02}", part_of(name)), &self.list);
        let mut record = Record::from_rdata(part, ttl, RData::PTR(PTR(full)));
        record.dns_class = class;
        record
    }

    fn add_addresses(&self, update: &mut Message, full: &Name, addresses: &Addresses) {
        let records = addresses
            .iter()
            .map(|address| address_record(full, self.ttl, *address));
        update.add_authorities(records);
    }
}

/// Returns the part of the list that a name is in: FNV-1a, because the choice must be the same in every release.
fn part_of(name: &RecordName) -> u32 {
    let hash = name.to_string().bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193_u32)
    });
    hash % PARTS
}

/// Begins an update: its question is the zone, its answers are what must hold before, its authority section is what to do
/// (section 2.3).
fn begin(zone: &Name) -> Message {
    let mut update = Message::new(0, MessageType::Query, OpCode::Update);
    update.add_query(Query::query(zone.clone(), RecordType::SOA));
    update
}

/// Returns a record without data, which stands for its set.
fn empty(name: &Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}

fn addresses_of(full: &Name) -> [Record; 2] {
    [RecordType::A, RecordType::AAAA].map(|kind| empty(full, kind, DNSClass::ANY))
}
