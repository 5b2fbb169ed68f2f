//! The MAC addresses that the programs know their interfaces by.
//!
//! A program has them in its own memory ([`lb_common::state`]) and not in a table: so a program is right from its
//! first packet, whatever slots the interfaces have for this agent and had for an earlier one.

use std::collections::HashMap;

use aya::{
    Ebpf,
    maps::{Array, Map, MapData},
};
use lb_common::{
    state::{MAP, State},
    station::{Station, pack},
};

use super::{adopt::used_maps, bpf, interfaces::Interface, pins::Pins};
use crate::{
    error::{DataplaneError, system},
    netlink::{
        socket::Requests,
        station::{addresses, links},
    },
};

/// Words of a program's state, and of the addresses at its start.
const WORDS: usize = size_of::<State>() / 8;
const STATION_WORDS: usize = size_of::<Station>() / 8;

const _: () = assert!(std::mem::offset_of!(State, station) == 0);

/// Writes the addresses of an interface into a program that was loaded for it. If they cannot be found out, the
/// program takes frames for any station, with a warning. `requests` asks in the interface's network namespace.
pub(crate) fn initialize(ebpf: &mut Ebpf, interface: u32, requests: &mut Requests) {
    let written = links(requests)
        .map_err(system("listing the interfaces"))
        .and_then(|links| {
            let map = ebpf.map_mut(MAP).ok_or_else(|| missing(interface))?;
            write(map, &addresses(&links, interface))
        });
    if let Err(error) = written {
        warn(interface, &error);
    }
}

/// Gives a program the addresses of the one that it takes the place of: whoever replaces it need not be in the network
/// namespace of its interface. One of an earlier build has none, and then the new one takes frames for any station until
/// an agent starts.
pub(crate) fn copy(ebpf: &mut Ebpf, old: u32) {
    let mut copied = || -> Result<(), DataplaneError> {
        let old = memory_of(old)?;
        let old: Array<_, [u64; WORDS]> = Array::try_from(&old).map_err(system(READING))?;
        let words = old.get(&0, 0).map_err(system(READING))?;
        let map = ebpf.map_mut(MAP).ok_or_else(|| missing(0))?;
        write_words(map, &words[..STATION_WORDS])
    };
    if let Err(error) = copied() {
        tracing::debug!("the replaced program has no MAC addresses: {error}");
    }
}

const READING: &str = "reading the MAC addresses of the replaced program";

fn missing(interface: u32) -> DataplaneError {
    system(format!(
        "writing the MAC addresses of interface {interface}"
    ))("this build of lb-agent is broken; install another one")
}

fn warn(interface: u32, error: &DataplaneError) {
    tracing::warn!(
        "the MAC addresses of interface {interface} are not known: frames for other stations may be balanced ({error})"
    );
}

fn write(map: &mut Map, addresses: &[[u8; 6]]) -> Result<(), DataplaneError> {
    let words: Vec<u64> = addresses.iter().map(|mac| pack(*mac)).collect();
    write_words(map, &words)
}

/// Writes the words of a program's addresses; those that are missing are 0.
fn write_words(map: &mut Map, station: &[u64]) -> Result<(), DataplaneError> {
    const OPERATION: &str = "writing the MAC addresses of an interface";
    let mut state: Array<_, [u64; WORDS]> = Array::try_from(map).map_err(system(OPERATION))?;
    let mut words = state.get(&0, 0).map_err(system(OPERATION))?;
    words[..STATION_WORDS].fill(0);
    for (word, new) in words[..STATION_WORDS].iter_mut().zip(station) {
        *word = *new;
    }
    state.set(0, words, 0).map_err(system(OPERATION))
}

/// The addresses that the attached programs have, by program.
pub(crate) struct Stations {
    /// Asks in the network namespace that the programs were attached in.
    requests: Option<Requests>,
    known: HashMap<u32, Vec<[u8; 6]>>,
}

impl Stations {
    /// Nothing is known of any program, in the network namespace of the calling thread.
    pub fn new() -> Stations {
        Stations {
            requests: Requests::new().ok(),
            known: HashMap::new(),
        }
    }

    /// Writes the addresses of each attached interface into its program, if they are other ones than before.
    pub fn refresh(&mut self, pins: &Pins, interfaces: &[Interface]) {
        let links = match self.requests().and_then(links) {
            Ok(links) => links,
            Err(error) => {
                self.requests = None;
                tracing::warn!(
                    "the interfaces cannot be listed, so changes of their MAC addresses are not followed: {error}"
                );
                return;
            }
        };
        let mut known = HashMap::new();
        for at in interfaces {
            // A link that is gone has no program; the one that takes its place is loaded with its addresses.
            let Ok(link) = bpf::pinned_link_info(&pins.link(&at.name)) else {
                continue;
            };
            if link.interface == 0 {
                continue;
            }
            let now = addresses(&links, link.interface);
            if self.known.get(&link.program) != Some(&now)
                && let Err(error) = write_attached(link.program, &now)
            {
                warn(link.interface, &error);
                continue;
            }
            known.insert(link.program, now);
        }
        self.known = known;
    }

    fn requests(&mut self) -> std::io::Result<&mut Requests> {
        match &mut self.requests {
            Some(requests) => Ok(requests),
            empty => Ok(empty.insert(Requests::new()?)),
        }
    }
}

fn write_attached(program: u32, addresses: &[[u8; 6]]) -> Result<(), DataplaneError> {
    write(&mut memory_of(program)?, addresses)
}

/// The memory of an attached program.
fn memory_of(program: u32) -> Result<Map, DataplaneError> {
    let operation = || format!("opening the memory of the attached program {program}");
    let (_, id) = used_maps(program)?
        .into_iter()
        .find(|(name, _)| name == MAP)
        .ok_or_else(|| system(operation())("it has none; start the agent again"))?;
    let map = MapData::from_id(id).map_err(system(operation()))?;
    Map::from_map_data(map).map_err(system(operation()))
}
