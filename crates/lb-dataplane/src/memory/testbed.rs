//! One service of UDP whose ring leads to the first of its reals, for tests of what packets or clients are given besides.

use std::{collections::BTreeMap, time::Duration};

use lb_common::memory::Processed;
use lb_model::{
    options::{Forward, Track},
    vip::RealId,
};

use super::MemoryDataplane;
use crate::{Dataplane as _, ServiceSpec, Terms, options::Options, resolver::AllNeighbours};

pub(super) struct Testbed {
    pub plane: MemoryDataplane,
    pub spec: ServiceSpec,
}

fn options() -> Options {
    Options::new(Vec::new())
}

pub(super) fn address(text: &str) -> RealId {
    text.parse().unwrap()
}

impl Testbed {
    pub fn new(terms: Terms, reals: &[&str]) -> Testbed {
        let plane = MemoryDataplane::new(&options(), Box::new(AllNeighbours)).unwrap();
        let mut bed = Testbed {
            plane,
            spec: ServiceSpec {
                vip: "10.0.0.1:443/udp".parse().unwrap(),
                forward: Forward::Ipip,
                terms,
                track: Track::Exceptions,
                window: Duration::from_secs(60),
                reals: reals.iter().map(|real| address(real)).collect(),
                down: BTreeMap::new(),
                ring: vec![0; 256].into(),
            },
        };
        bed.set();
        bed
    }

    pub fn set(&mut self) {
        self.plane.set_service(&self.spec).unwrap();
    }

    /// The same with another agent on the same tables.
    pub fn restart(self) -> Testbed {
        let plane = self
            .plane
            .restart(&options(), Box::new(AllNeighbours), false);
        Testbed {
            plane: plane.unwrap(),
            ..self
        }
    }

    /// What becomes of a client's datagram.
    pub fn sent(&mut self, client: [u8; 4], payload: &[u8]) -> Processed {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(client, [10, 0, 0, 1], 64)
            .udp(40_000, 443)
            .write(&mut frame, payload)
            .unwrap();
        self.plane.forward(&frame).0
    }

    pub fn index(&self, real: &str) -> Option<u16> {
        let mark = self.plane.mark_of(&self.spec.vip, address(real)).unwrap();
        Some(mark as u16)
    }

    /// Entries of a table.
    pub fn used(&self, name: &str) -> u64 {
        let tables = self.plane.status().tables;
        let table = tables.iter().find(|table| table.name == name);
        table.map_or(0, |table| table.used)
    }
}
