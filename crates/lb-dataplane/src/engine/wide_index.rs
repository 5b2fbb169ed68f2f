//! VIPs that are more than one address and port: their prefixes and sets of ports.
//!
//! Invariant: a prefix's set in the tables holds its own ranges and behind them those of each shorter prefix around it. A
//! set is written before a key leads to it, and not written again while a packet may still read it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use lb_common::{
    ip::Family,
    limits::{MAX_PORT_SETS, MAX_WIDE_KEYS, RANGES_PER_SET},
    tables::{
        config::{WIDE_V4, WIDE_V6},
        vip::ECHO_SERVICE,
        wide::{FIXED_BITS, NO_RANGE, PortSet, WideKey, range},
    },
};
use lb_model::vip::{Protocol, VipKey};

use super::{QUIESCENCE_TICKS, clock::reached, real_record::octets};
use crate::{backend::TableBackend, error::DataplaneError};

/// A key of the trie: the bits that count, and the data.
type Prefix = (u32, WideKey);

/// The ranges of ports that VIPs have in each prefix. Several VIPs may want its echo requests answered.
type Ranges = BTreeMap<Prefix, Vec<u64>>;

/// The prefixes of VIPs, and where their sets are.
#[derive(Debug, Default)]
pub(crate) struct WideIndex {
    vips: BTreeMap<VipKey, u32>,
    own: Ranges,
    sets: HashMap<Prefix, u32>,
    /// Sets that no key leads to any more, and since when.
    retired: VecDeque<(u32, u32)>,
    /// Sets from here on were never used.
    unused: u32,
}

/// The key of an address's first bits, for a protocol.
fn prefix(address: IpAddr, length: u8, protocol: u8) -> Prefix {
    let family = if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    let bits = FIXED_BITS + u32::from(length);
    let key = WideKey {
        bits,
        family: family as u8,
        protocol,
        pad: [0; 2],
        address: octets(address),
    };
    (bits, key.first_bits(bits))
}

/// The address and length of a key.
fn network((bits, key): &Prefix) -> (IpAddr, u8) {
    let length = u8::try_from(bits.saturating_sub(FIXED_BITS)).unwrap_or(128);
    let address = if key.family == Family::V4 as u8 {
        let [a, b, c, d, ..] = key.address;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(key.address)
    };
    (address, length)
}

/// Each prefix of a VIP with its range there.
fn entries(vip: &VipKey, service: u32) -> Vec<(Prefix, u64)> {
    let (first, last) = if vip.port == 0 {
        (0, u16::MAX)
    } else {
        (vip.port, vip.last_port())
    };
    let length = vip.prefix_length();
    let mut entries: Vec<(Prefix, u64)> = vip
        .protocol
        .numbers()
        .iter()
        .map(|number| {
            let of = range(first, last, service);
            (prefix(vip.address, length, *number), of)
        })
        .collect();
    if vip.is_prefix() {
        let icmp = if vip.address.is_ipv4() { 1 } else { 58 };
        let all = range(0, u16::MAX, ECHO_SERVICE);
        entries.push((prefix(vip.address, length, icmp), all));
    }
    entries
}

impl WideIndex {
    /// The VIPs that are in use.
    pub fn vips(&self) -> impl Iterator<Item = &VipKey> {
        self.vips.keys()
    }

    /// Whether this is one of them.
    pub fn contains(&self, vip: &VipKey) -> bool {
        self.vips.contains_key(vip)
    }

    /// Keys in the trie.
    pub fn used(&self) -> u64 {
        self.own.len() as u64
    }

    /// `Config::flags` of the `CONFIG` table.
    #[must_use]
    pub fn config_flags(&self) -> u32 {
        self.vips.keys().fold(0, |flags, vip| {
            flags
                | if vip.address.is_ipv4() {
                    WIDE_V4
                } else {
                    WIDE_V6
                }
        })
    }

    /// Leads packets for a VIP to a service.
    ///
    /// # Errors
    /// [`DataplaneError::Full`], and those of the backend; then nothing has changed but sets that no key leads to.
    pub fn insert<B: TableBackend>(
        &mut self,
        backend: &mut B,
        vip: &VipKey,
        service: u32,
    ) -> Result<(), DataplaneError> {
        let mut own = self.own.clone();
        let entries = entries(vip, service);
        for (prefix, range) in &entries {
            own.entry(*prefix).or_default().push(*range);
        }
        if own.len() > MAX_WIDE_KEYS as usize {
            return Err(DataplaneError::Full {
                table: "WIDE",
                capacity: u64::from(MAX_WIDE_KEYS),
                advice: "delete a VIP that is a prefix, has a range of ports or several protocols first",
            });
        }
        self.apply(backend, own, entries.iter().map(|(prefix, _)| *prefix))?;
        self.vips.insert(*vip, service);
        Ok(())
    }

    /// Leads packets for a VIP nowhere.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn remove<B: TableBackend>(
        &mut self,
        backend: &mut B,
        vip: &VipKey,
    ) -> Result<(), DataplaneError> {
        let Some(service) = self.vips.get(vip).copied() else {
            return Ok(());
        };
        let mut own = self.own.clone();
        let entries = entries(vip, service);
        for (prefix, range) in &entries {
            if let Some(ranges) = own.get_mut(prefix) {
                if let Some(at) = ranges.iter().position(|one| one == range) {
                    ranges.remove(at);
                }
                if ranges.is_empty() {
                    own.remove(prefix);
                }
            }
        }
        self.apply(backend, own, entries.iter().map(|(prefix, _)| *prefix))?;
        self.vips.remove(vip);
        Ok(())
    }

    /// Brings the tables from the present ranges to these, which differ in the prefixes that changed.
    fn apply<B: TableBackend>(
        &mut self,
        backend: &mut B,
        own: Ranges,
        changed: impl Iterator<Item = Prefix>,
    ) -> Result<(), DataplaneError> {
        let changed: Vec<Prefix> = changed.collect();
        let touched = |prefix: &Prefix| changed.iter().any(|outer| holds(outer, prefix));
        let mut writes = Vec::new();
        for prefix in own.keys().filter(|prefix| touched(prefix)) {
            writes.push((*prefix, set_of(&own, prefix)?));
        }
        for (prefix, set) in writes {
            self.put(backend, prefix, set)?;
        }
        for prefix in changed {
            if !own.contains_key(&prefix)
                && let Some(set) = self.sets.remove(&prefix)
            {
                backend.remove_wide(prefix.0, &prefix.1)?;
                self.retired.push_back((backend.now(), set));
            }
        }
        self.own = own;
        Ok(())
    }

    /// Leads a prefix to a set with this content, unless it has it already.
    fn put<B: TableBackend>(
        &mut self,
        backend: &mut B,
        prefix: Prefix,
        set: PortSet,
    ) -> Result<(), DataplaneError> {
        let before = self.sets.get(&prefix).copied();
        if before.is_some_and(|before| backend.port_set(before) == set) {
            return Ok(());
        }
        let index = self.free_set(backend)?;
        backend.write_port_set(index, set);
        backend.insert_wide(prefix.0, &prefix.1, index)?;
        self.sets.insert(prefix, index);
        if let Some(before) = before {
            self.retired.push_back((backend.now(), before));
        }
        Ok(())
    }

    /// A set that no packet reads.
    fn free_set<B: TableBackend>(&mut self, backend: &B) -> Result<u32, DataplaneError> {
        let now = backend.now();
        if let Some(&(since, index)) = self.retired.front()
            && reached(now, since.wrapping_add(QUIESCENCE_TICKS))
        {
            self.retired.pop_front();
            return Ok(index);
        }
        if self.unused == MAX_PORT_SETS {
            return Err(DataplaneError::Full {
                table: "PORT_SETS",
                capacity: u64::from(MAX_PORT_SETS),
                advice: "too many changes at once; try again in a few seconds",
            });
        }
        self.unused += 1;
        Ok(self.unused - 1)
    }

    /// The VIPs that an earlier agent left, with their services.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn left<B: TableBackend>(backend: &B) -> Result<Vec<(VipKey, u32)>, DataplaneError> {
        // A service's own prefix is the shortest that it is in: the longer ones have its ranges from there.
        let mut shortest: BTreeMap<u32, (Prefix, u64, Vec<u8>)> = BTreeMap::new();
        let mut left = backend.wide()?;
        left.sort_unstable();
        for (bits, key, index) in left {
            for of in backend.port_set(index).ranges {
                let service = (of >> 32) as u32;
                if of == NO_RANGE || service == ECHO_SERVICE {
                    continue;
                }
                let (first, _, protocols) =
                    shortest
                        .entry(service)
                        .or_insert(((bits, key), of, Vec::new()));
                if (first.0, first.1.address) == (bits, key.address) {
                    protocols.push(key.protocol);
                }
            }
        }
        Ok(shortest
            .into_iter()
            .filter_map(|(service, (prefix, of, protocols))| {
                let (address, length) = network(&prefix);
                let (first, last) = (of as u16, (of >> 16) as u16);
                let protocol = Protocol::from_numbers(&protocols)?;
                let vip = if first == 0 {
                    VipKey::wide(address, length, 0, 0, protocol)
                } else {
                    VipKey::wide(address, length, first, last, protocol)
                };
                Some((vip.ok()?, service))
            })
            .collect())
    }

    /// Goes on with the keys and sets that an earlier agent left, which may have died between any two stores, for these
    /// VIPs of it.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn adopt<B: TableBackend>(
        &mut self,
        backend: &mut B,
        vips: &[(VipKey, u32)],
    ) -> Result<(), DataplaneError> {
        for (bits, key, index) in backend.wide()? {
            self.sets.insert((bits, key), index);
            self.unused = self.unused.max(index + 1);
        }
        let mut own = Ranges::new();
        for (vip, service) in vips {
            self.vips.insert(*vip, *service);
            for (prefix, range) in entries(vip, *service) {
                own.entry(prefix).or_default().push(range);
            }
        }
        let all: Vec<Prefix> = own.keys().chain(self.sets.keys()).copied().collect();
        self.apply(backend, own, all.into_iter())
    }
}

/// Whether all addresses of a prefix are in another one of the same protocol.
fn holds(outer: &Prefix, inner: &Prefix) -> bool {
    outer.0 <= inner.0 && inner.1.first_bits(outer.0) == outer.1
}

/// The set of a prefix: its ranges and those of the prefixes around it, the narrowest first.
fn set_of(own: &Ranges, prefix: &Prefix) -> Result<PortSet, DataplaneError> {
    let mut set = PortSet::default();
    let mut used = 0;
    for outer in (FIXED_BITS..=prefix.0).rev() {
        let Some(ranges) = own.get(&(outer, prefix.1.first_bits(outer))) else {
            continue;
        };
        let mut ranges = ranges.clone();
        let width = |of: &u64| ((of >> 16) as u16).wrapping_sub(*of as u16);
        ranges.sort_unstable_by_key(|of| (width(of), *of));
        ranges.dedup();
        for range in ranges {
            let Some(place) = set.ranges.get_mut(used) else {
                return Err(DataplaneError::Full {
                    table: "PORT_SETS",
                    capacity: RANGES_PER_SET as u64,
                    advice: "one address can be in so many ranges of ports, those of shorter prefixes included; give \
                             neighbouring ports to one VIP",
                });
            };
            *place = range;
            used += 1;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBackend;

    fn vip(text: &str) -> VipKey {
        text.parse().unwrap()
    }

    fn services(backend: &MemoryBackend, text: &str) -> Vec<u32> {
        let vip = vip(text);
        let sought = prefix(vip.address, vip.prefix_length(), vip.protocol.numbers()[0]);
        let wide = backend.wide().unwrap();
        let Some((_, _, set)) = wide.iter().find(|(bits, key, _)| (*bits, *key) == sought) else {
            return Vec::new();
        };
        let ranges = backend.port_set(*set).ranges;
        ranges
            .iter()
            .filter(|of| **of != NO_RANGE)
            .map(|of| (of >> 32) as u32)
            .collect()
    }

    #[test]
    fn a_set_has_the_ranges_of_the_prefixes_around_it() {
        let mut backend = MemoryBackend::for_tests();
        let mut index = WideIndex::default();
        index
            .insert(&mut backend, &vip("10.0.0.1:80-90/tcp"), 1)
            .unwrap();
        index
            .insert(&mut backend, &vip("10.0.0.0/24:0/tcp"), 2)
            .unwrap();
        index
            .insert(&mut backend, &vip("10.0.0.1:85-86/tcp"), 3)
            .unwrap();
        index
            .insert(&mut backend, &vip("10.0.0.0/8:80/tcp+udp"), 4)
            .unwrap();
        assert_eq!(services(&backend, "10.0.0.1:80-90/tcp"), [3, 1, 2, 4]);
        assert_eq!(services(&backend, "10.0.0.0/24:0/tcp"), [2, 4]);
        assert_eq!(services(&backend, "10.0.0.0/8:80/tcp+udp"), [4]);
        let flags = index.config_flags();
        assert_eq!(flags, WIDE_V4);
        // What an earlier agent left is found again, whatever its ranges are also a part of.
        let mut left = WideIndex::left(&backend).unwrap();
        left.sort_unstable_by_key(|(_, service)| *service);
        let names: Vec<String> = left.iter().map(|(vip, _)| vip.to_string()).collect();
        assert_eq!(
            names,
            [
                "10.0.0.1:80-90/tcp",
                "10.0.0.0/24:0/tcp",
                "10.0.0.1:85-86/tcp",
                "10.0.0.0/8:80/tcp+udp"
            ]
        );
        let mut next = WideIndex::default();
        next.adopt(&mut backend, &left[..3]).unwrap();
        assert_eq!(services(&backend, "10.0.0.1:80-90/tcp"), [3, 1, 2]);
        assert_eq!(
            services(&backend, "10.0.0.0/8:80/tcp+udp"),
            Vec::<u32>::new()
        );
        next.remove(&mut backend, &vip("10.0.0.0/24:0/tcp"))
            .unwrap();
        assert_eq!(services(&backend, "10.0.0.1:80-90/tcp"), [3, 1]);
        assert_eq!(services(&backend, "10.0.0.0/24:0/tcp"), Vec::<u32>::new());
        for text in ["10.0.0.1:80-90/tcp", "10.0.0.1:85-86/tcp"] {
            next.remove(&mut backend, &vip(text)).unwrap();
        }
        assert_eq!(backend.wide().unwrap(), []);
        assert_eq!(next.config_flags(), 0);
    }

    #[test]
    fn more_ranges_than_a_set_has_are_refused_and_change_nothing() {
        let mut backend = MemoryBackend::for_tests();
        let mut index = WideIndex::default();
        for at in 0..16 {
            let name = format!("10.0.0.1:{}-{}/tcp", at * 10 + 1, at * 10 + 2);
            index.insert(&mut backend, &vip(&name), at + 1).unwrap();
        }
        let before = services(&backend, "10.0.0.1:1-2/tcp");
        assert_eq!(before.len(), 16);
        for name in ["10.0.0.1:500-501/tcp", "10.0.0.0/24:0/tcp"] {
            let error = index.insert(&mut backend, &vip(name), 99).unwrap_err();
            assert!(
                matches!(error, DataplaneError::Full { capacity: 16, .. }),
                "{error}"
            );
            assert!(!index.contains(&vip(name)));
            assert_eq!(services(&backend, "10.0.0.1:1-2/tcp"), before);
        }
    }
}
