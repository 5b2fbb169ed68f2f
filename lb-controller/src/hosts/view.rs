//! Hosts, as operators see them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lb_model::host::HostName;

use super::{
    HostRefusal, Hosts,
    placement::Claim,
    presence::{Doubt, Standing},
    record::Duty,
};
use crate::clock::unix_now;

/// The state of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is connected, and takes instances.
    Up,
    /// It is connected, and takes no more instances.
    Cordoned,
    /// It is connected, and its instances are replaced elsewhere.
    Draining,
    /// It is not connected.
    Silent,
    /// It is proved to be lost.
    Lost,
}

impl State {
    /// All, in the order of the documentation.
    pub const ALL: &[State] = &[
        State::Up,
        State::Cordoned,
        State::Draining,
        State::Silent,
        State::Lost,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Cordoned => "cordoned",
            State::Draining => "draining",
            State::Silent => "silent",
            State::Lost => "lost",
        }
    }
}

/// A host, as operators see it.
#[derive(Clone, Debug)]
pub struct HostView {
    /// Its name.
    pub name: HostName,
    /// Its state.
    pub state: State,
    /// What an operator wants of it.
    pub duty: Duty,
    /// Why it has its state, if that is not plain.
    pub why: String,
    /// What it has.
    pub capacity: Claim,
    /// What is reserved of it.
    pub used: Claim,
    /// Instances that it has, or is to have.
    pub instances: usize,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it joined, since 1970; `None` for the controller's own.
    pub joined: Option<Duration>,
    /// When it was connected last, since 1970; `None` while it is.
    pub last_seen: Option<Duration>,
    /// How long its certificate lasts, while it is connected.
    pub certificate_left: Option<Duration>,
    /// Where it connects from.
    pub from: Option<SocketAddr>,
    /// The version of its program.
    pub version: String,
}

impl Hosts {
    /// All hosts, the controller's own first.
    #[must_use]
    pub fn views(&self) -> Vec<HostView> {
        let state = self.state();
        let ledger = self.ledger();
        let own = HostName::local();
        let mut views = vec![HostView {
            state: State::Up,
            duty: Duty::Open,
            why: "the controller's own".to_owned(),
            capacity: self.0.own,
            used: ledger.used(&own),
            instances: ledger.count(&own),
            labels: BTreeMap::new(),
            joined: None,
            last_seen: None,
            certificate_left: None,
            from: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: own,
        }];
        for (name, record) in &state.records {
            let standing = state.presence.standing(name).unwrap_or(Standing::Lost);
            let connection = state
                .connections
                .get(name)
                .map(|(_, connection)| connection);
            let shown = match (standing, record.duty) {
                (Standing::Up, Duty::Open) => State::Up,
                (Standing::Up, Duty::Cordoned) => State::Cordoned,
                (Standing::Up, Duty::Draining) => State::Draining,
                (Standing::Silent(_), _) => State::Silent,
                (Standing::Lost, _) => State::Lost,
            };
            let doubt = state.doubts.get(name).copied().unwrap_or(Doubt::Young);
            let why = match (state.refusals.get(name), shown) {
                (Some(refusal), _) => format!("refused: {refusal}"),
                (None, State::Silent) => doubt.text().to_owned(),
                (None, State::Lost) => {
                    "nobody reaches its instances; they are replaced elsewhere".to_owned()
                }
                (None, State::Draining) if ledger.count(name) == 0 => {
                    "it has no instances".to_owned()
                }
                _ => String::new(),
            };
            views.push(HostView {
                name: name.clone(),
                state: shown,
                duty: record.duty,
                why,
                capacity: record.capacity,
                used: ledger.used(name),
                instances: ledger.count(name),
                labels: record.labels.clone(),
                joined: Some(record.joined),
                last_seen: connection.is_none().then_some(record.last_seen),
                certificate_left: connection
                    .map(|_| record.certificate_ends.saturating_sub(unix_now())),
                from: connection.map(|connection| connection.from),
                version: connection
                    .map(|connection| connection.version.clone())
                    .unwrap_or_default(),
            });
        }
        views
    }

    /// A host.
    ///
    /// # Errors
    /// There is no such host.
    pub fn show(&self, name: &HostName) -> Result<HostView, HostRefusal> {
        self.views()
            .into_iter()
            .rfind(|view| view.name == *name)
            .ok_or_else(|| HostRefusal::Unknown(name.clone()))
    }
}
