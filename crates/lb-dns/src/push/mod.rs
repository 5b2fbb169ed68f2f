//! Brings names to a DNS server that exists already, by signed updates (RFC 2136, RFC 8945).
//!
//! # What is ours
//! A name is ours if the server has, beside it, the mark that this module makes: a TXT record at `_lb-owner.LB.PROJECT.ZONE`
//! with the text `lb-dns owner=OWNER`. Each update has the mark as a prerequisite (RFC 2136 section 2.4.2), so the server
//! itself rejects an update of a name that is somebody else's, whatever has changed since it was looked at. A name becomes
//! ours only if it has neither a mark nor an address nor an alias. Of a name that is ours, the A and AAAA records are
//! replaced; other record sets at it are not touched.
//!
//! # Which names there are
//! A name that is no longer wanted must be found although nobody remembers it: the controller may have lost its last
//! changes, or the update may have been lost. So each name is also listed, by a PTR record at
//! `NN.OWNER._lb-names.ZONE`, in the same update that makes it. `NN` is one of 64 parts, by a hash of the name, so that a
//! part of 20,000 names still fits into a message. The list is only where to look: what counts is the mark.
//!
//! An update is one message and is applied as a whole or not at all, so clients see the old addresses or the new ones.

mod connection;
mod error;
mod key;
mod message;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, RecordType},
};
use lb_model::{
    dns::{Addresses, DnsPush, DnsSpec, DomainName, RecordName, check_addresses},
    settings::FieldError,
};

pub use error::PushError;
pub use key::{Key, KeyError};
pub use plan::Outcome;

use connection::Connection;
use message::Names;
use plan::{Plan, State, plan};

use crate::zone::{name_of, seconds};

/// Questions that are sent before their answers are read. A server reads on only if it has room for some answers.
const PIPELINE: usize = 18;
/// Questions about one name.
const QUESTIONS: usize = 3;
/// Updates that the server may refuse before one is accepted, until the others are not tried.
const MAX_REFUSALS: usize = 8;

const _: () = assert!(PIPELINE.is_multiple_of(QUESTIONS));

/// Brings names to a DNS server.
#[derive(Clone, Debug)]
pub struct Push {
    server: SocketAddr,
    key_file: PathBuf,
    zone: DomainName,
    names: Names,
    timeout: Duration,
}

/// What became of all names.
#[derive(Debug, Default)]
pub struct Report {
    /// Names that were made, or got other addresses.
    pub written: BTreeSet<RecordName>,
    /// Names that are wanted no more.
    pub removed: BTreeSet<RecordName>,
    /// Names that were as they are to be.
    pub unchanged: usize,
    /// Names that could not be brought into their state, each with the reason. Trying again helps only against some.
    pub failed: BTreeMap<RecordName, PushError>,
}

impl Push {
    /// Takes the settings. Nothing is sent.
    #[must_use]
    pub fn new(spec: &DnsSpec, push: &DnsPush) -> Self {
        Push {
            server: push.server,
            key_file: push.key_file.clone(),
            zone: spec.zone.clone(),
            names: Names::new(&spec.zone, &push.owner, seconds(spec.ttl)),
            timeout: push.timeout,
        }
    }

    /// Makes these the addresses of a name. Without addresses the name is removed.
    ///
    /// # Errors
    /// Returns why the server does not have them. An update whose answer was lost may have been applied; calling again
    /// finds that out.
    pub async fn set(&self, name: &RecordName, wanted: &Addresses) -> Result<Outcome, PushError> {
        check(name, wanted)?;
        let mut connection = self.connect().await?;
        self.converge(&mut connection, name, wanted, None).await
    }

    /// Removes a name.
    ///
    /// # Errors
    /// See [`Push::set`].
    pub async fn remove(&self, name: &RecordName) -> Result<Outcome, PushError> {
        self.set(name, &Addresses::new()).await
    }

    /// Returns the names that the server lists as ours.
    ///
    /// # Errors
    /// Returns why the list cannot be read.
    pub async fn listed(&self) -> Result<BTreeSet<RecordName>, PushError> {
        let mut connection = self.connect().await?;
        self.list(&mut connection).await
    }

    /// Makes these the names that are ours, with their addresses: missing ones are made, others are corrected, and those
    /// of the list that are not wanted are removed. What is as it is to be is not written.
    ///
    /// # Errors
    /// Returns what concerns all names: the server cannot be reached, or rejects the key. What concerns one name is in the
    /// report.
    pub async fn reconcile(
        &self,
        wanted: &BTreeMap<RecordName, Addresses>,
    ) -> Result<Report, PushError> {
        self.reconcile_with(wanted, |strangers| strangers).await
    }

    /// As [`reconcile`](Self::reconcile), but of the names that are listed and not wanted only those are removed that `collect`
    /// returns.
    ///
    /// # Errors
    /// As those of `reconcile`.
    pub async fn reconcile_with(
        &self,
        wanted: &BTreeMap<RecordName, Addresses>,
        collect: impl FnOnce(BTreeSet<RecordName>) -> BTreeSet<RecordName>,
    ) -> Result<Report, PushError> {
        for (name, addresses) in wanted {
            check(name, addresses)?;
        }
        let mut connection = self.connect().await?;
        let mut listed = self.list(&mut connection).await?;
        let is_stranger = |name: &&RecordName| !wanted.contains_key(*name);
        let strangers: BTreeSet<_> = listed.iter().filter(is_stranger).cloned().collect();
        let collected = collect(strangers);
        listed.retain(|name| wanted.contains_key(name) || collected.contains(name));
        let nothing = Addresses::new();
        let all: BTreeSet<&RecordName> = wanted.keys().chain(&listed).collect();
        let all: Vec<&RecordName> = all.into_iter().collect();
        let mut report = Report::default();
        for some in all.chunks(PIPELINE / QUESTIONS) {
            let states = self.states(&mut connection, some).await?;
            let mut updates = Vec::new();
            let mut planned = Vec::new();
            for (&name, state) in some.iter().zip(states) {
                let addresses = wanted.get(name).unwrap_or(&nothing);
                let is_listed = Some(listed.contains(name));
                match self.look(name, &state, addresses, is_listed) {
                    Ok(plan) => match self.update(&connection, name, addresses, plan) {
                        Some(update) => {
                            updates.push(update);
                            planned.push((name, addresses, is_listed, plan));
                        }
                        None => self.note(&mut report, name, Ok(plan.outcome()))?,
                    },
                    Err(error) => self.note(&mut report, name, Err(error))?,
                }
            }
            let codes = connection.update(updates).await?;
            for ((name, addresses, is_listed, plan), code) in planned.into_iter().zip(codes) {
                let outcome = if has_changed(code) {
                    self.converge(&mut connection, name, addresses, is_listed)
                        .await
                } else {
                    self.decided(name, plan, code)
                };
                self.note(&mut report, name, outcome)?;
            }
        }
        Ok(report)
    }

    /// Adds what became of a name to a report.
    ///
    /// # Errors
    /// Returns what concerns all names, also if the server has refused several and accepted none.
    fn note(
        &self,
        report: &mut Report,
        name: &RecordName,
        outcome: Result<Outcome, PushError>,
    ) -> Result<(), PushError> {
        match outcome {
            Ok(Outcome::Unchanged) => report.unchanged += 1,
            Ok(Outcome::Written) => {
                report.written.insert(name.clone());
            }
            Ok(Outcome::Removed) => {
                report.removed.insert(name.clone());
            }
            Err(error) if error.concerns_one_name() => {
                report.failed.insert(name.clone(), error);
                let refusals = report.failed.values().filter(|error| error.is_refusal());
                let accepted = report.written.len() + report.removed.len();
                if accepted == 0 && refusals.count() >= MAX_REFUSALS {
                    return Err(PushError::Refused {
                        server: self.server,
                        zone: self.zone.clone(),
                    });
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, PushError> {
        let key = Key::read(&self.key_file).map_err(|source| PushError::Key {
            path: self.key_file.clone(),
            source,
        })?;
        let mut connection = Connection::open(self.server, key, self.timeout).await?;
        connection.find_zone(&self.zone).await?;
        Ok(connection)
    }

    /// Reads the list of names.
    async fn list(&self, connection: &mut Connection) -> Result<BTreeSet<RecordName>, PushError> {
        let parts: Vec<Name> = self.names.list_parts().collect();
        let mut listed = BTreeSet::new();
        for some in parts.chunks(PIPELINE) {
            let questions: Vec<_> = some
                .iter()
                .map(|part| (part.clone(), RecordType::PTR))
                .collect();
            let answers = connection.ask(&questions).await?;
            for answer in answers.iter().filter(|one| one.metadata.authoritative) {
                listed.extend(answer.answers.iter().filter_map(|record| {
                    let RData::PTR(target) = &record.data else {
                        return None;
                    };
                    self.names.record_name(&target.0)
                }));
            }
        }
        Ok(listed)
    }

    /// Asks what the server has at names.
    async fn states(
        &self,
        connection: &mut Connection,
        names: &[&RecordName],
    ) -> Result<Vec<State>, PushError> {
        let questions: Vec<_> = names
            .iter()
            .flat_map(|name| {
                let full = name_of(&name.in_zone(&self.zone));
                let mark = self.names.mark_name(&full);
                [
                    (full.clone(), RecordType::A),
                    (full, RecordType::AAAA),
                    (mark, RecordType::TXT),
                ]
            })
            .collect();
        let answers = connection.ask(&questions).await?;
        Ok(answers
            .chunks(QUESTIONS)
            .zip(questions.chunks(QUESTIONS))
            .map(|(answers, questions)| {
                let mut state = State::default();
                for (answer, (name, _)) in answers.iter().zip(questions) {
                    state.add(name, answer);
                }
                state
            })
            .collect())
    }

    fn look(
        &self,
        name: &RecordName,
        state: &State,
        wanted: &Addresses,
        is_listed: Option<bool>,
    ) -> Result<Plan, PushError> {
        plan(
            state,
            wanted,
            self.names.ttl(),
            self.names.mark(),
            is_listed,
        )
        .map_err(|what| PushError::Foreign {
            name: name.in_zone(&self.zone),
            what,
        })
    }

    /// Brings a name to its addresses. If the name changes after it was looked at, it is looked at once more.
    async fn converge(
        &self,
        connection: &mut Connection,
        name: &RecordName,
        wanted: &Addresses,
        is_listed: Option<bool>,
    ) -> Result<Outcome, PushError> {
        let mut again = true;
        loop {
            let mut states = self.states(connection, &[name]).await?;
            let state = states.pop().unwrap_or_default();
            let plan = self.look(name, &state, wanted, is_listed)?;
            let update = self.update(connection, name, wanted, plan);
            let codes = connection.update(update).await?;
            match codes.first() {
                Some(code) if has_changed(*code) && again => again = false,
                Some(code) => return self.decided(name, plan, *code),
                None => return Ok(plan.outcome()),
            }
        }
    }

    fn update(
        &self,
        connection: &Connection,
        name: &RecordName,
        wanted: &Addresses,
        plan: Plan,
    ) -> Option<Message> {
        let zone = connection.zone();
        match plan {
            Plan::Keep => None,
            Plan::Create => Some(self.names.create(zone, name, wanted)),
            Plan::Change => Some(self.names.change(zone, name, wanted)),
            Plan::Remove => Some(self.names.remove(zone, name)),
            Plan::List => Some(self.names.list(zone, name)),
            Plan::Unlist => Some(self.names.unlist(zone, name)),
        }
    }

    /// Returns what the server's decision about an update means.
    fn decided(
        &self,
        name: &RecordName,
        plan: Plan,
        code: ResponseCode,
    ) -> Result<Outcome, PushError> {
        let name = name.in_zone(&self.zone);
        match code {
            ResponseCode::NoError => Ok(plan.outcome()),
            ResponseCode::Refused => Err(PushError::Refused {
                server: self.server,
                zone: self.zone.clone(),
            }),
            ResponseCode::NotAuth | ResponseCode::NotZone => Err(PushError::NotAuthoritative {
                server: self.server,
                zone: self.zone.clone(),
            }),
            code if has_changed(code) => Err(PushError::Conflict { name }),
            code => Err(PushError::Server {
                server: self.server,
                code,
                about: name.to_string(),
            }),
        }
    }
}

/// Returns whether the server rejects an update because the name is not as it was when it was looked at (RFC 2136 section
/// 3.2.5).
fn has_changed(code: ResponseCode) -> bool {
    matches!(
        code,
        ResponseCode::YXDomain
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::NXRRSet
    )
}

fn check(name: &RecordName, addresses: &Addresses) -> Result<(), PushError> {
    check_addresses(addresses).map_err(|error: FieldError| PushError::Addresses(error.within(name)))
}
