//! The data plane behind one trait, with two homes: the kernel and memory.
//!
//! Whoever decides what is wanted speaks in [`WantedService`]s: addresses, and a ring of positions in the
//! list of reals. Indices, windows, unsettled slots, next hops and sizes of tables are this room's affair.

mod adopt;
mod allocator;
mod attach;
mod attachments;
mod bpf;
mod engine;
pub(crate) mod error;
mod growth;
pub mod home;
pub mod hops;
mod kernel;
mod kernel_home;
mod keys;
pub mod layout;
mod loader;
mod mapped;
pub mod memory;
#[cfg(test)]
mod on_down_tests;
pub mod options;
mod pins;
mod probes;
mod report;
mod services;
mod shed;
mod simulate;
mod sweep;
mod tables;
mod take_over;
mod vips;
mod wanted;
mod window;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

pub use kernel::{KernelDataplane, detach};
pub use memory::MemoryDataplane;

use lb_common::{
    forward::{Facts, IPIP, L2},
    reason::{ChosenBy, Reason, Verdict},
    vip::VipAddress,
};

/// How a packet reaches a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// In an outer IP header.
    Ipip,
    /// With the real's MAC address.
    L2,
}

impl Forward {
    /// Every mode.
    const ALL: [Forward; 2] = [Forward::Ipip, Forward::L2];

    /// The facts of the data path's mode.
    #[must_use]
    pub const fn facts(self) -> &'static Facts {
        match self {
            Forward::Ipip => IPIP,
            Forward::L2 => L2,
        }
    }

    /// The mode with this number in a real's record.
    fn of_mode(number: u32) -> Option<Forward> {
        Forward::ALL
            .into_iter()
            .find(|forward| forward.facts().number == number)
    }
}

/// Which flows have an entry in the flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// Those whose real is not what the ring says.
    Exceptions,
    /// Every flow.
    All,
}

/// What becomes of the running flows of a real that is dead.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They go to the ring's real at once, which knows nothing of them.
    #[default]
    Rehash,
    /// The client's next TCP packet is answered with a reset, so that it connects anew at once. UDP knows no
    /// reset: its flows go to the ring's real.
    Reset,
    /// They stay with the dead real, as those of a drained one: it may come back.
    Keep,
}

/// What becomes of packets for a service that has no real for them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// They are dropped: clients try again until they give up.
    #[default]
    Drop,
    /// TCP is answered with a reset: clients know at once. UDP is dropped.
    Reset,
}

/// A service as it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedService {
    /// Its name.
    pub vip: VipAddress,
    /// How packets reach its reals.
    pub forward: Forward,
    /// Which flows are tracked.
    pub track: Track,
    /// How long an idle flow keeps its real, and how long a changed slot remembers the previous one.
    pub window: Duration,
    /// Its reals, in any order; those that no slot names (drained, weight 0) keep their flows.
    pub reals: Vec<IpAddr>,
    /// Those of `reals` that are dead, and what becomes of their flows. The ring names none of them.
    pub down: BTreeMap<IpAddr, OnDown>,
    /// For each slot the position in `reals`, or [`NO_REAL`]. Empty: no real takes flows.
    pub ring: Arc<[u16]>,
    /// What becomes of packets that no real takes.
    pub when_empty: WhenEmpty,
}

/// A slot without a real.
pub const NO_REAL: u16 = u16::MAX;

/// Counters of one real, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of IP packets as they came in.
    pub bytes: u64,
    /// New flows.
    pub opened: u64,
    /// FIN and RST from clients.
    pub closed: u64,
    /// Flows whose end nobody saw: those that it had open when it was last dead, and whoever it has open while it is.
    pub lost: u64,
}

impl Counters {
    /// Flows that are open, as far as these tell.
    #[must_use]
    pub const fn open(&self) -> u64 {
        self.opened
            .saturating_sub(self.closed)
            .saturating_sub(self.lost)
    }
}

/// Counters of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStats {
    /// Its name.
    pub vip: VipAddress,
    /// Forwarded, deleted reals included.
    pub total: Counters,
    /// Packets dropped, and their bytes.
    pub dropped: (u64, u64),
    /// Per real, in the order of [`WantedService::reals`].
    pub reals: Vec<(IpAddr, Counters)>,
}

/// Frames by reason, of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Every reason, by number.
    pub reasons: Vec<(Reason, u64)>,
}

/// Use of the flow table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTableStats {
    /// Entries there is room for.
    pub capacity: u64,
    /// Entries in use (live), as of the last sweep.
    pub used: u64,
    /// See `lb_common::tables::counters::FlowTableCounters`.
    pub inserted: u64,
    /// Live entries that had to give way.
    pub evicted: u64,
    /// Packets that found their entry.
    pub hits: u64,
    /// Packets that looked and found none.
    pub misses: u64,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Per service.
    pub services: Vec<ServiceStats>,
    /// Per interface.
    pub interfaces: Vec<InterfaceStats>,
    /// Of the flow table.
    pub flow_table: FlowTableStats,
}

/// Live flows of one real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealFlows {
    /// Its service.
    pub vip: VipAddress,
    /// Its address.
    pub address: IpAddr,
    /// Live flows: where the service tracks all, entries of the flow table without those that FIN or RST
    /// closed; else [`Counters::open`]. A dead real has none, and of one that came back only those count that
    /// were heard of, or opened, since.
    pub flows: u64,
    /// Whether `flows` was counted.
    pub exact: bool,
    /// Live entries of the flow table that name it; those of closed flows live about 30 s longer.
    pub entries: u64,
    /// Whether the way to it is known (next hop resolved).
    pub reachable: bool,
}

/// What a frame would meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// What happens to it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The service it is for.
    pub vip: Option<VipAddress>,
    /// The real it goes to.
    pub real: Option<IpAddr>,
    /// What chose the real.
    pub chosen_by: ChosenBy,
    /// The frame as it leaves.
    pub packet: Vec<u8>,
}

/// An attached interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether the program runs in the driver.
    pub native: bool,
    /// Why it does not, and what to do; empty if it does.
    pub warning: String,
}

/// Use of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Its name.
    pub name: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries there is room for.
    pub capacity: u64,
    /// Kernel memory it takes, in bytes.
    pub bytes: u64,
}

/// The data plane's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Interfaces, in the order given.
    pub interfaces: Vec<InterfaceStatus>,
    /// Tables.
    pub tables: Vec<TableUse>,
    /// Slots that look up the flow table.
    pub unsettled_slots: u64,
    /// Slots in all.
    pub slots: u64,
    /// Layout of the tables.
    pub layout: u32,
    /// How often they were made anew.
    pub generation: u32,
    /// Whether an earlier agent's tables were adopted.
    pub adopted: bool,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// A table has no room; nothing was changed.
    #[error("the {table} table is full ({capacity} entries); {advice}")]
    Full {
        /// Its name.
        table: &'static str,
        /// Entries there is room for.
        capacity: u64,
        /// What to do.
        advice: &'static str,
    },
    /// No such interface is attached.
    #[error("no interface {name} is attached; there are {attached}")]
    NoInterface {
        /// The name asked for.
        name: String,
        /// The names there are.
        attached: String,
    },
    /// The frame cannot be simulated.
    #[error("a frame of {length} bytes cannot be simulated; give one of 14 to {limit} bytes")]
    FrameLength {
        /// Its length.
        length: usize,
        /// The longest that can.
        limit: usize,
    },
    /// Flows of this real cannot be reset.
    #[error("flows of the real {real} of {vip} cannot be shed: {why}")]
    CannotShed {
        /// Its service.
        vip: VipAddress,
        /// Its address.
        real: IpAddr,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A system call failed.
    #[error("{operation}: {source}")]
    System {
        /// What was tried, on what.
        operation: String,
        /// What it answered.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The owner of the tables. Calls do not block longer than a few system calls or a scan of memory.
pub trait Dataplane: Send {
    /// Adds a service, or changes the one with this name to what is wanted. New flows see the change when
    /// the call returns; running flows keep their reals for the window. On an error nothing has changed.
    ///
    /// # Errors
    /// [`DataplaneError::Full`], or [`DataplaneError::System`] from growing a table.
    fn set_service(&mut self, wanted: &WantedService) -> Result<(), DataplaneError>;

    /// Resets up to `flows` running flows of a real soon, so that their clients connect anew and the ring
    /// chooses again: each of its next TCP packets with data ends its flow, until so many are ended. Takes the
    /// place of an order that is not yet carried out; 0 calls it off. CPUs that end flows at the same moment
    /// may end more than `flows`, by less than the number of CPUs. Returns how many flows of the earlier order
    /// were still to be reset.
    ///
    /// # Errors
    /// [`DataplaneError::CannotShed`].
    fn shed(&mut self, vip: &VipAddress, real: IpAddr, flows: u32) -> Result<u32, DataplaneError>;

    /// The mark (`SO_MARK`) of a socket whose packets to the VIP reach this real, whatever the ring says, as
    /// clients' packets do: encapsulated, or with its MAC address. `None`: there is no such real, or packets of
    /// this host do not pass this data plane. Ask again after the service was changed. The answers come from the
    /// VIP's address to the host's own.
    fn probe_mark(&self, vip: &VipAddress, real: IpAddr) -> Option<u32>;

    /// Why probes to a VIP do not leave this host by the data plane, and what to do; `None`: they do, as far as
    /// routes and neighbours tell. Waits for a neighbour's answer for some milliseconds.
    fn probe_trouble(&mut self, vip: &VipAddress) -> Option<String>;

    /// Removes a service and its reals; its packets pass to the host's stack from now on. Nothing happens
    /// if there is none.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn remove_service(&mut self, vip: &VipAddress) -> Result<(), DataplaneError>;

    /// Names of the services the tables hold, wanted or not: what an adopting agent compares with intent.
    fn services(&self) -> Vec<VipAddress>;

    /// Work that time brings: settles slots whose window is over, frees indices that nothing names any
    /// more, sweeps the flow table. Call it about once a second.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn tick(&mut self) -> Result<(), DataplaneError>;

    /// All counters.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn stats(&self) -> Result<Stats, DataplaneError>;

    /// Live flows of every real.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn flows(&self) -> Result<Vec<RealFlows>, DataplaneError>;

    /// Runs the program on a frame without changing flows or counters.
    ///
    /// # Errors
    /// [`DataplaneError::NoInterface`], [`DataplaneError::FrameLength`], [`DataplaneError::System`].
    fn simulate(
        &mut self,
        interface: Option<&str>,
        frame: &[u8],
    ) -> Result<Simulation, DataplaneError>;

    /// The data plane's own state.
    fn status(&self) -> Status;

    /// The way to some address changed (route, neighbour or interface): look the next hops up again. Whether a real
    /// can be reached now that could not, or the other way round.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError>;
}
