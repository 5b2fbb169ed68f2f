//! Conversion of a testbed to tables in memory, and code that the kernel's tables share.

use std::net::IpAddr;

use super::testbed::Testbed;
use lb_common::{
    limits::{MAX_VIP_BUCKETS, SLOTS_PER_CHUNK},
    memory::{Constants, MemTables},
    state::State,
    station::pack,
    tables::{
        flow::{Bucket, Flow},
        ring::Chunk,
        vip::{Vip4Key, Vip6Key},
    },
};

/// Buckets of the VIP tables: few enough that some VIPs are in their second bucket.
pub const VIP_BUCKETS: u32 = 8;

/// Replaces both VIP tables, with [`VIP_BUCKETS`] buckets, or more if the VIPs do not fit.
///
/// # Panics
/// Panics if they fit into no table.
pub fn write_vips(tables: &mut MemTables, testbed: &Testbed) {
    let mut buckets = VIP_BUCKETS;
    while !try_vips(tables, testbed, buckets) {
        buckets *= 2;
        assert!(
            buckets <= MAX_VIP_BUCKETS,
            "the VIPs of a testbed fit into a table"
        );
    }
}

fn try_vips(tables: &mut MemTables, testbed: &Testbed, buckets: u32) -> bool {
    tables.clear_vips(buckets);
    // The order must be the same for all tables of a testbed, because it decides which VIPs fit.
    let mut vips: Vec<_> = testbed.vips.iter().collect();
    vips.sort_by_key(|(name, _)| (name.address, name.port, name.protocol));
    vips.into_iter().all(|(name, service)| {
        let (port, protocol) = (name.port.to_be_bytes(), name.protocol);
        match name.address {
            IpAddr::V4(address) => {
                let address = address.octets();
                let key = Vip4Key {
                    address,
                    port,
                    protocol,
                };
                tables.insert_vip4(&key, *service)
            }
            IpAddr::V6(address) => {
                let address = address.octets();
                let key = Vip6Key {
                    address,
                    port,
                    protocol,
                };
                tables.insert_vip6(&key, *service)
            }
        }
        .is_ok()
    })
}

/// Returns the slots in chunks.
pub fn chunks(testbed: &Testbed) -> Vec<Chunk> {
    let slots: Vec<_> = testbed.slot_records().collect();
    slots
        .chunks(SLOTS_PER_CHUNK as usize)
        .map(|part| {
            let mut slots = [0; SLOTS_PER_CHUNK as usize];
            slots[..part.len()].copy_from_slice(part);
            Chunk { slots }
        })
        .collect()
}

/// Creates tables for a testbed of this size.
pub fn memory(testbed: &Testbed, flow_buckets: u32) -> MemTables {
    let mut tables = MemTables::new(
        testbed.services.len(),
        testbed.reals.len(),
        testbed.slots.len(),
        testbed.next_hops.len(),
        flow_buckets as usize,
    );
    tables.constants = Constants {
        interface_index: testbed.interface,
        ring_seed: testbed.ring_seed,
        flow_secret: testbed.flow_secret,
        gue_port: testbed.gue_port,
        ends_tunnels: false,
    };
    tables.state = state(testbed);
    write(&mut tables, testbed);
    tables
}

/// The state of a program on the testbed's interface that has sent no errors.
pub fn state(testbed: &Testbed) -> State {
    let state = State::new();
    let places = std::iter::once(&state.station.own).chain(&state.station.others);
    for (place, mac) in places.zip(&testbed.stations) {
        place.store(pack(*mac));
    }
    state
}

/// Writes all tables but the flow table.
pub fn write(tables: &mut MemTables, testbed: &Testbed) {
    write_vips(tables, testbed);
    tables.config = testbed.config();
    tables.services = testbed.service_records().collect();
    tables.reals = testbed.real_records().collect();
    for (budget, wanted) in tables.budgets.iter().zip(testbed.budget_records()) {
        budget.store(wanted.flows as u64);
    }
    tables.next_hops = testbed.next_hop_records().collect();
    tables.rings = chunks(testbed);
    tables.server_ids = testbed.server_id_records().collect();
    tables.quic_lb = testbed.quic_lb_records().collect();
    tables.source_rules = testbed.source_rule_records().collect();
}

/// Returns the flow table.
pub fn buckets(tables: &MemTables) -> Vec<Bucket> {
    tables
        .flows
        .iter()
        .map(|bucket| Bucket {
            flows: std::array::from_fn(|i| Flow {
                owner: bucket.flows[i].owner.load(),
                stamp: bucket.flows[i].stamp.load(),
            }),
        })
        .collect()
}

/// Writes the flow table.
pub fn set_buckets(tables: &mut MemTables, buckets: &[Bucket]) {
    for (shared, bucket) in tables.flows.iter().zip(buckets) {
        for (entry, flow) in shared.flows.iter().zip(bucket.flows) {
            entry.stamp.store(flow.stamp);
            entry.owner.store(flow.owner);
        }
    }
}
