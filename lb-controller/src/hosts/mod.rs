//! Hosts that run instances for this controller: who is one, which are there, and what they have left.
//!
//! Pure are [`placement`] (which host gets an instance), [`ledger`] (what is reserved), [`presence`] (which host is lost) and
//! [`balance`] (what is moved). A host's connection has a task ([`link`]), and one task keeps watch over all ([`watch`]).

pub mod balance;
mod door;
pub mod ledger;
pub mod link;
pub mod placement;
pub mod presence;
mod record;
mod settings;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;
pub mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_hosts::{remote::Remote, token::Token};
use lb_model::{
    host::HostName,
    pool::{Placement, PoolName},
};
use lb_proto::host::v1::host_client::HostClient;
use lb_serve::vital::Registrar;
use tokio::{
    sync::watch::{Receiver, Sender},
    time::Instant,
};
use tonic::transport::Channel;

use self::{
    ledger::{Held, HostRoom, Ledger, Place},
    placement::{Claim, NoRoom},
    presence::{Doubt, Presence, Standing},
};
pub use self::{
    record::{Duty, HostRecord, TokenRecord},
    settings::HostSettings,
    view::{HostView, State as HostState},
};
use crate::{
    clock::unix_now,
    events::Events,
    keeper::{Changes, Keeper, KeeperError},
    pool::{Event, Homeless},
};

/// See [`lb_serve::vital`].
pub const DOOR: &str = "the server of hosts";

/// What a host said of itself on its present connection.
#[derive(Clone, Debug)]
struct Connection {
    from: SocketAddr,
    capacity: Claim,
    labels: BTreeMap<String, String>,
    version: String,
    drivers: Vec<String>,
}

/// A host, as pools see it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Whether it is there.
    pub standing: Standing,
    /// Whether its instances are to be replaced elsewhere.
    pub leaves: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its drivers.
    pub remote: Arc<Remote>,
    /// Drivers that it was used with, as JSON.
    pub drivers: Vec<String>,
}

/// The hosts, as pools see them; the controller's own is none of them.
pub type Fleet = BTreeMap<HostName, Member>;

/// Why an order about hosts is refused.
#[derive(Debug, thiserror::Error)]
pub enum HostRefusal {
    /// There is no such host.
    #[error("there is no host {0}; `lbctl host list` shows them")]
    Unknown(HostName),
    /// Hosts cannot join.
    #[error("this controller takes no hosts; give hosts.listen in its configuration file")]
    NoHosts,
    /// It has instances.
    #[error(
        "host {name} has {count} instances; drain it first, or give --force if it will never come back: they are replaced elsewhere then"
    )]
    Busy {
        /// The host.
        name: HostName,
        /// Its instances.
        count: usize,
    },
    /// It is connected.
    #[error("host {0} is connected and has instances, so it is not lost; drain it first")]
    Connected(HostName),
    /// The store does not work.
    #[error("nothing was changed: {0}")]
    Store(#[from] KeeperError),
    /// The system has no random numbers.
    #[error("making a token: {0}")]
    Token(std::io::Error),
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<HostName, HostRecord>,
    tokens: BTreeMap<String, TokenRecord>,
    presence: Presence,
    remotes: BTreeMap<HostName, Arc<Remote>>,
    connections: BTreeMap<HostName, (u64, Connection)>,
    last_connection: u64,
    /// Those of which nothing was heard lately, although they are connected.
    quiet: BTreeSet<HostName>,
    doubts: BTreeMap<HostName, Doubt>,
    /// Who was refused, and why.
    refusals: BTreeMap<HostName, String>,
    /// The instances that balance moves, by pool.
    moves: BTreeMap<PoolName, u32>,
}

#[derive(Debug)]
struct Inner {
    settings: Option<HostSettings>,
    owner: String,
    /// The certificate of the authority, which tokens name.
    authority: Vec<u8>,
    keeper: Keeper,
    events: Events,
    parts: Registrar,
    started: Instant,
    /// What this machine has.
    own: Claim,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
    fleet: Sender<Arc<Fleet>>,
    /// Orders, one at a time.
    orders: tokio::sync::Mutex<()>,
}

/// All hosts.
#[derive(Clone, Debug)]
pub struct Hosts(Arc<Inner>);

/// What hosts need.
#[derive(Debug)]
pub struct Means {
    /// The settings; without them no host can join.
    pub settings: Option<HostSettings>,
    /// The controller's name.
    pub owner: String,
    /// The certificate of the authority (DER).
    pub authority: Vec<u8>,
    /// The store.
    pub keeper: Keeper,
    /// The events.
    pub events: Events,
    /// Where tasks are registered.
    pub parts: Registrar,
}

impl Hosts {
    /// The hosts that are stored; none is connected.
    #[must_use]
    pub fn new(
        means: Means,
        stored: Vec<HostRecord>,
        tokens: BTreeMap<String, TokenRecord>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = lb_hosts::server::memory_of_machine().unwrap_or_default();
        let hosts = Hosts(Arc::new(Inner {
            settings: means.settings,
            owner: means.owner,
            authority: means.authority,
            keeper: means.keeper,
            events: means.events,
            parts: means.parts,
            started: Instant::now(),
            own: Claim::new(cores as f64, memory),
            state: Mutex::default(),
            ledger: Mutex::default(),
            fleet: Sender::default(),
            orders: tokio::sync::Mutex::default(),
        }));
        hosts.state().tokens = tokens;
        for record in stored {
            hosts.take_up(record);
        }
        hosts.publish();
        hosts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since the start.
    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// How long hosts may be silent before they are asked for a proof.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        let settings = self.0.settings.as_ref();
        settings.map_or(Duration::from_secs(10), |settings| settings.lost_after)
    }

    /// The hosts, as they change.
    #[must_use]
    pub fn fleet(&self) -> Receiver<Arc<Fleet>> {
        self.0.fleet.subscribe()
    }

    fn event(&self, host: &HostName, kind: &'static str, text: &str, is_alarm: bool) {
        let event = Event {
            instance: None,
            kind,
            text: format!("host {host}: {text}"),
            is_alarm,
        };
        self.0.events.add(None, event);
    }

    /// Takes up a host that has joined now or before.
    fn take_up(&self, record: HostRecord) {
        let now = self.now();
        {
            let mut state = self.state();
            let name = record.name.clone();
            state.presence.add(name.clone(), record.is_lost, now);
            let remote = state.remotes.entry(name.clone());
            remote.or_insert_with(|| Arc::new(Remote::new(name.clone())));
            state.refusals.remove(&name);
            state.records.insert(name, record);
        }
        self.publish();
    }

    /// Tells pools and the ledger what is so.
    fn publish(&self) {
        let state = self.state();
        let mut rooms = BTreeMap::from([(
            HostName::local(),
            HostRoom {
                capacity: self.0.own,
                labels: BTreeMap::new(),
                is_open: true,
            },
        )]);
        let mut fleet = Fleet::new();
        for (name, record) in &state.records {
            let standing = match state.presence.standing(name).unwrap_or(Standing::Lost) {
                // For pools it is as good as not connected.
                Standing::Up if state.quiet.contains(name) => Standing::Silent(self.now()),
                standing => standing,
            };
            let room = HostRoom {
                capacity: record.capacity,
                labels: record.labels.clone(),
                is_open: standing == Standing::Up && record.duty == Duty::Open,
            };
            rooms.insert(name.clone(), room);
            let Some(remote) = state.remotes.get(name) else {
                continue;
            };
            let member = Member {
                standing,
                leaves: record.duty == Duty::Draining,
                labels: record.labels.clone(),
                remote: Arc::clone(remote),
                drivers: record.drivers.clone(),
            };
            fleet.insert(name.clone(), member);
        }
        self.ledger().set_hosts(rooms);
        // While the state is locked, so that no older fleet comes after a newer one.
        self.0.fleet.send_replace(Arc::new(fleet));
    }

    /// A host has connected: the number of its connection, and its drivers. `None` if it is no host any more.
    fn connected(
        &self,
        name: &HostName,
        connection: Connection,
        client: HostClient<Channel>,
    ) -> Option<(u64, Arc<Remote>)> {
        let now = unix_now();
        let (number, remote, record, was_lost) = {
            let mut state = self.state();
            state.last_connection += 1;
            let number = state.last_connection;
            let remote = Arc::clone(state.remotes.get(name)?);
            let record = state.records.get_mut(name)?;
            let was_lost = record.is_lost;
            record.capacity = connection.capacity;
            record.labels.clone_from(&connection.labels);
            record.drivers.clone_from(&connection.drivers);
            record.is_lost = false;
            record.last_seen = now;
            let record = record.clone();
            state.connections.insert(name.clone(), (number, connection));
            state.doubts.remove(name);
            state.quiet.remove(name);
            state.presence.connect(name);
            (number, remote, record, was_lost)
        };
        remote.connect(number, client);
        self.publish();
        self.store(record);
        let text = if was_lost {
            "it is back; what it still has of earlier epochs is removed"
        } else {
            "it is connected"
        };
        self.event(name, "host_up", text, false);
        tracing::info!("host {name} is connected");
        Some((number, remote))
    }

    /// Nothing was heard of a host lately on this connection, or something again.
    fn quiet(&self, name: &HostName, number: u64, is_quiet: bool) {
        {
            let mut state = self.state();
            let present = state.connections.get(name);
            if present.is_none_or(|(present, _)| *present != number) {
                return;
            }
            if is_quiet {
                state.quiet.insert(name.clone());
            } else {
                state.quiet.remove(name);
            }
        }
        self.publish();
    }

    /// A connection of a host has ended.
    fn disconnected(&self, name: &HostName, number: u64, why: &str) {
        let record = {
            let mut state = self.state();
            let remote = state.remotes.get(name).cloned();
            if let Some(remote) = remote {
                remote.disconnect(number);
            }
            if state
                .connections
                .get(name)
                .is_none_or(|(present, _)| *present != number)
            {
                // It has made another one meanwhile.
                return;
            }
            state.connections.remove(name);
            state.quiet.remove(name);
            let now = self.now();
            state.presence.disconnect(name, now);
            state.records.get_mut(name).map(|record| {
                record.last_seen = unix_now();
                record.clone()
            })
        };
        self.publish();
        if let Some(record) = record {
            self.store(record);
            self.event(name, "host_silent", why, false);
            tracing::warn!("host {name} is not connected: {why}");
        }
    }

    /// Stores a record of which nothing depends: what is lost with it is told again.
    fn store(&self, record: HostRecord) {
        let keeper = self.0.keeper.clone();
        let mut changes = Changes::default();
        changes.put(&record.name, &record);
        keeper.owe(changes);
    }

    fn note_refusal(&self, name: &HostName, why: Option<String>) {
        let mut state = self.state();
        match why {
            Some(why) => state.refusals.insert(name.clone(), why),
            None => state.refusals.remove(name),
        };
    }

    /// What is wrong with hosts, in words.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let state = self.state();
        let refused = state
            .refusals
            .iter()
            .map(|(name, why)| format!("host {name} is refused: {why}"));
        let mut warnings: Vec<String> = refused.collect();
        for (name, standing) in state.presence.hosts() {
            match (standing, state.doubts.get(name)) {
                (Standing::Lost, _) => warnings.push(format!(
                    "host {name} is lost: its instances are replaced elsewhere; `lbctl host remove {name}` if it does not come back"
                )),
                (Standing::Silent(_), Some(doubt)) if *doubt != Doubt::Young => {
                    warnings.push(format!("host {name}: {}", doubt.text()));
                }
                _ => {}
            }
        }
        warnings
    }

    /// Reserves a host for an instance.
    ///
    /// # Errors
    /// No host has room.
    pub fn place(
        &self,
        pool: &PoolName,
        placement: Option<&Placement>,
        wish: &Homeless,
        unlisted: &BTreeSet<HostName>,
    ) -> Result<HostName, NoRoom> {
        let Some(placement) = placement else {
            return Ok(HostName::local());
        };
        let before = wish.before.as_ref();
        self.ledger().place(Place {
            pool,
            number: wish.number,
            placement,
            claim: wish.claim,
            prefer: before.filter(|_| !wish.leaves),
            leave: before.filter(|_| wish.leaves),
            unlisted,
        })
    }

    /// Says what a pool holds, and returns the number that changes when there may be more room.
    pub fn hold(&self, pool: &PoolName, held: Vec<Held>) -> u64 {
        let mut ledger = self.ledger();
        ledger.set_pool(pool, held);
        ledger.revision()
    }

    /// The instance of a pool that is to move, for balance.
    #[must_use]
    pub fn moves(&self, pool: &PoolName) -> Option<u32> {
        self.state().moves.get(pool).copied()
    }

    /// Makes a token, by which a machine can become a host within this time.
    ///
    /// # Errors
    /// [`HostRefusal`].
    pub async fn token(
        &self,
        name: Option<HostName>,
        lifetime: Duration,
    ) -> Result<(String, SocketAddr), HostRefusal> {
        let settings = self.0.settings.as_ref().ok_or(HostRefusal::NoHosts)?;
        let token = Token::new(&self.0.authority).map_err(HostRefusal::Token)?;
        let record = TokenRecord {
            name,
            ends: unix_now() + lifetime,
            used_by: None,
        };
        let mut changes = Changes::default();
        changes.put(token.key(), &record);
        self.0.keeper.write(changes).await?;
        self.state().tokens.insert(token.key(), record);
        Ok((token.to_string(), settings.listen))
    }

    /// Says what is wanted of a host.
    ///
    /// # Errors
    /// [`HostRefusal`].
    pub async fn set_duty(&self, name: &HostName, duty: Duty) -> Result<HostView, HostRefusal> {
        let _order = self.0.orders.lock().await;
        let mut record = self.record(name)?;
        record.duty = duty;
        let mut changes = Changes::default();
        changes.put(name, &record);
        self.0.keeper.write(changes).await?;
        if let Some(record) = self.state().records.get_mut(name) {
            record.duty = duty;
        }
        self.publish();
        self.event(name, "host_duty", &format!("it is to be {duty}"), false);
        self.show(name)
    }

    fn record(&self, name: &HostName) -> Result<HostRecord, HostRefusal> {
        let state = self.state();
        let record = state.records.get(name).cloned();
        record.ok_or_else(|| HostRefusal::Unknown(name.clone()))
    }

    /// Removes a host. One that has instances is removed by force only, and only if it is not connected: whoever does that
    /// says that it will never come back.
    ///
    /// # Errors
    /// [`HostRefusal`].
    pub async fn remove(&self, name: &HostName, force: bool) -> Result<(), HostRefusal> {
        let _order = self.0.orders.lock().await;
        self.record(name)?;
        let count = self.ledger().count(name);
        let standing = self.state().presence.standing(name);
        if count > 0 && standing == Some(Standing::Up) {
            return Err(HostRefusal::Connected(name.clone()));
        }
        if count > 0 && !force {
            return Err(HostRefusal::Busy {
                name: name.clone(),
                count,
            });
        }
        let mut changes = Changes::default();
        changes.remove::<HostRecord>(name);
        self.0.keeper.write(changes).await?;
        {
            let mut state = self.state();
            state.records.remove(name);
            state.remotes.remove(name);
            state.connections.remove(name);
            state.doubts.remove(name);
            state.presence.remove(name);
        }
        self.publish();
        self.event(name, "host_removed", "it is no host any more", false);
        Ok(())
    }

    /// Whether a machine that shows this certificate is a host; its connection ends otherwise.
    fn check(&self, subject: &lb_hosts::authority::Subject) -> Result<(), String> {
        lb_hosts::accept::Door::check(self, subject)
    }

    /// The controller's name.
    fn controller(&self) -> &str {
        &self.0.owner
    }

    /// The hosts that are to have instances.
    fn with_instances(&self) -> BTreeSet<HostName> {
        let ledger = self.ledger();
        ledger
            .claims()
            .map(|(_, _, host, _)| host.clone())
            .collect()
    }
}
