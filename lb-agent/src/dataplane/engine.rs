//! The rules that fill the tables, the same for every home.
//!
//! What the tables hold is kept here as well, but only as an index: a slot's state is read from the table
//! it is changed in, so an adopting agent goes on exactly where the last one stopped.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use lb_common::{
    tables::{
        config::{ANY_PORT_V4, ANY_PORT_V6},
        real::{ADDRESS_V6, DOWN, RESET, Real, outer_checksum},
    },
    vip::{Protocol, VipAddress},
};

use super::{
    Counters, DataplaneError, Forward,
    allocator::{Extents, Indices},
    home::Home,
    hops::{Hops, ResolvedHop, Resolver},
    options::SourcePrefix,
    services::reached,
    sweep::Sweeper,
};

/// How long something that packets can no longer find rests before it is used again, in ticks (100 ms):
/// a packet that was under way when it was unlinked is long done.
pub(crate) const REST_TICKS: u32 = 6;

/// A real of a service.
#[derive(Clone, Debug)]
pub(crate) struct RealState {
    pub index: u16,
    pub address: IpAddr,
    pub hop: Option<lb_common::tables::next_hop::NextHop>,
    /// When it was last dead and came back, in ticks: a flow that was not heard of since does not count as live. The
    /// flows that it had are gone, or were moved or told so; their ends were not all seen, for what a server says to
    /// its clients does not come by the balancer. How many they were is in its record, for the next agent, too; when
    /// that was is not.
    pub returned: Option<u32>,
}

/// A service.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub index: u32,
    pub vip: VipAddress,
    pub forward: Forward,
    pub track_all: bool,
    /// TCP packets that no real takes are answered with a reset.
    pub reset_empty: bool,
    /// A new service of UDP tracks every flow until then: its reals are added one by one, and no datagram
    /// tells a new flow from one that was running before.
    pub track_until: Option<u32>,
    /// Since when the flow table knows every live flow; `None`: it does not.
    pub complete_from: Option<u32>,
    /// In ticks.
    pub window: u32,
    /// In the order they were wanted.
    pub reals: Vec<RealState>,
    pub first_slot: u32,
    pub slots: u32,
    /// When each slot's window began; empty when no slot is in its window.
    pub begun: Vec<u32>,
    /// When some slot's window ends.
    pub next_end: Option<u32>,
    /// Slots that look up the flow table, and since when no slot was added to those whose window is over.
    pub unsettled: u32,
    pub exceptions_since: u32,
    /// Counters of deleted reals.
    pub retired: Counters,
}

impl ServiceState {
    /// Whether every flow is given an entry now.
    pub fn tracks(&self) -> bool {
        self.track_all || self.track_until.is_some()
    }

    /// Whether a datagram that the flow table does not know begins a flow.
    pub fn knows_all(&self, now: u32) -> bool {
        self.vip.protocol == Protocol::Udp
            && self.tracks()
            && self.complete_from.is_some_and(|from| reached(now, from))
    }
}

/// A deleted real that a flow or a packet under way may still name.
#[derive(Debug)]
pub(crate) struct Dying {
    pub index: u16,
    pub service: u32,
    pub since: u32,
    pub hop: Option<lb_common::tables::next_hop::NextHop>,
}

/// The rules and their index of a home's tables.
pub(crate) struct Engine<H> {
    pub home: H,
    pub resolver: Box<dyn Resolver>,
    pub source_v4: SourcePrefix,
    pub source_v6: SourcePrefix,
    pub services: BTreeMap<VipAddress, ServiceState>,
    pub service_indices: Indices,
    pub real_indices: Indices,
    pub hops: Hops,
    pub extents: Extents,
    /// VIPs by address: each address answers echo requests once.
    pub addresses: HashMap<IpAddr, u32>,
    /// VIPs with port 0, IPv4 and IPv6.
    pub any_port: [u32; 2],
    pub dying: Vec<Dying>,
    /// Reals that have the flag [`lb_common::tables::real::SHED`].
    pub shedding: Vec<u16>,
    /// First slots of rings that nothing points to any more, and since when.
    pub resting_rings: Vec<(u32, u32)>,
    /// Indices of removed services, and since when.
    pub resting_services: Vec<(u32, u32)>,
    /// How many reals have each address.
    pub wanted_addresses: HashMap<IpAddr, u32>,
    /// Addresses of VIPs whose way is looked at for probes.
    pub probed: HashSet<IpAddr>,
    pub sweeper: Sweeper,
    pub warnings: Vec<String>,
}

impl<H: Home> Engine<H> {
    /// Takes over the tables as they are; fresh ones are empty.
    ///
    /// # Errors
    /// [`DataplaneError::System`] from reading or repairing a table.
    pub fn new(
        home: H,
        resolver: Box<dyn Resolver>,
        source_v4: SourcePrefix,
        source_v6: SourcePrefix,
    ) -> Result<Engine<H>, DataplaneError> {
        let mut engine = Engine {
            home,
            resolver,
            source_v4,
            source_v6,
            services: BTreeMap::new(),
            service_indices: Indices::new(),
            real_indices: Indices::new(),
            hops: Hops::new(),
            extents: Extents::default(),
            addresses: HashMap::new(),
            any_port: [0; 2],
            dying: Vec::new(),
            shedding: Vec::new(),
            resting_rings: Vec::new(),
            resting_services: Vec::new(),
            wanted_addresses: HashMap::new(),
            probed: HashSet::new(),
            sweeper: Sweeper::default(),
            warnings: Vec::new(),
        };
        engine.take_over()?;
        Ok(engine)
    }

    /// One VIP more has this address.
    pub fn count_address(&mut self, vip: &VipAddress) {
        *self.addresses.entry(vip.address).or_default() += 1;
        if vip.port == 0 {
            self.any_port[usize::from(vip.address.is_ipv6())] += 1;
        }
    }

    /// One VIP less has this address; true if it was the last.
    pub fn uncount_address(&mut self, vip: &VipAddress) -> bool {
        if vip.port == 0 {
            let any_port = &mut self.any_port[usize::from(vip.address.is_ipv6())];
            *any_port = any_port.saturating_sub(1);
        }
        let Some(count) = self.addresses.get_mut(&vip.address) else {
            return true;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.addresses.remove(&vip.address);
        }
        last
    }

    /// What `CONFIG` should say.
    pub fn config_flags(&self) -> u32 {
        let [v4, v6] = self.any_port;
        (if v4 > 0 { ANY_PORT_V4 } else { 0 }) | (if v6 > 0 { ANY_PORT_V6 } else { 0 })
    }

    /// One real more has this address.
    pub fn want(&mut self, address: IpAddr) {
        let count = self.wanted_addresses.entry(address).or_default();
        *count += 1;
        if *count == 1 {
            self.resolver.want(address);
        }
    }

    /// One real less has this address.
    pub fn forget(&mut self, address: IpAddr) {
        if let Some(count) = self.wanted_addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.wanted_addresses.remove(&address);
                self.resolver.forget(address);
            }
        }
    }

    /// The record of a real, without its next hop.
    pub fn real_record(&self, address: IpAddr, forward: Forward, service: u32) -> Real {
        let prefix = if address.is_ipv4() {
            self.source_v4
        } else {
            self.source_v6
        };
        let (destination, source) = (octets(address), octets(prefix.address()));
        let checksum = match (prefix.address(), address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                outer_checksum(source.octets(), destination.octets())
            }
            _ => 0,
        };
        Real {
            flags: mode_flags(address, forward),
            next_hop: 0,
            address: destination,
            source,
            source_mask: prefix.host_mask().to_be_bytes(),
            checksum,
            service,
            lost: 0,
            port: [0; 2],
            pad: [0; 6],
        }
    }

    /// Looks every way up again and moves the reals whose way has changed. Whether one can be reached now that could
    /// not, or the other way round.
    ///
    /// # Errors
    /// [`DataplaneError::Full`] or [`DataplaneError::System`] from growing the table of next hops.
    pub fn refresh_next_hops(&mut self) -> Result<bool, DataplaneError> {
        let mut turned = false;
        let now = self.home.now();
        let mut changes = Vec::new();
        let mut fresh = HashSet::new();
        for (vip, state) in &self.services {
            for (position, real) in state.reals.iter().enumerate() {
                let hop = usable(self.resolver.resolve(real.address), state.forward)
                    .map(|hop| hop.record());
                if hop != real.hop {
                    if let Some(hop) = hop {
                        fresh.insert((hop.destination, hop.source, hop.interface));
                    }
                    changes.push((*vip, position, hop));
                }
            }
        }
        let needed = self.hops.table_size(fresh.len() as u32);
        if let Some(layout) = self.home.layout().grown(0, 0, needed, 0)? {
            self.home.grow(layout)?;
        }
        for (vip, position, hop) in changes {
            let Some(state) = self.services.get_mut(&vip) else {
                continue;
            };
            let real = &mut state.reals[position];
            let index = match &hop {
                Some(record) => {
                    let (index, new) = self.hops.take(record);
                    if new {
                        self.home.write_next_hop(index, *record);
                    }
                    index
                }
                None => 0,
            };
            self.home.set_real_next_hop(u32::from(real.index), index);
            turned |= real.hop.is_some() != hop.is_some();
            if let Some(old) = std::mem::replace(&mut real.hop, hop) {
                self.hops.give(&old, now);
            }
        }
        Ok(turned)
    }
}

/// The way, if a real of this mode can be reached by it.
pub(crate) fn usable(hop: Option<ResolvedHop>, forward: Forward) -> Option<ResolvedHop> {
    hop.filter(|hop| hop.direct || !forward.facts().needs_direct_neighbour)
}

/// Whether a real with these [`Real::flags`] is dead, so that its flows are lost to it.
pub(crate) fn is_dead(flags: u32) -> bool {
    flags & (DOWN | RESET) != 0
}

/// [`Real::flags`] of a real that is up.
pub(crate) fn mode_flags(address: IpAddr, forward: Forward) -> u32 {
    let family = if address.is_ipv6() { ADDRESS_V6 } else { 0 };
    forward.facts().number | family
}

pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&a.octets());
            octets
        }
        IpAddr::V6(a) => a.octets(),
    }
}
