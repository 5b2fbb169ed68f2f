//! A world as tables in memory, and what both homes need of it.

use std::net::IpAddr;

use super::world::World;
use lb_common::limits::{MAX_VIP_BUCKETS, SLOTS_PER_CHUNK};
use lb_common::memory::{Constants, MemTables};
use lb_common::tables::{
    flow::{Bucket, Flow},
    ring::Chunk,
    vip::{Vip4Key, Vip6Key},
};

/// Buckets of the VIP tables: so few that some VIPs are in their second one.
pub const VIP_BUCKETS: u32 = 8;

/// Writes both VIP tables anew, with [`VIP_BUCKETS`] buckets or more if there is no place in so few.
///
/// # Panics
/// If there is no place in any table.
pub fn write_vips(tables: &mut MemTables, world: &World) {
    let mut buckets = VIP_BUCKETS;
    while !try_vips(tables, world, buckets) {
        buckets *= 2;
        assert!(
            buckets <= MAX_VIP_BUCKETS,
            "the VIPs of a world have a place"
        );
    }
}

fn try_vips(tables: &mut MemTables, world: &World, buckets: u32) -> bool {
    tables.clear_vips(buckets);
    // In an order that is the same for all tables of a world: it decides what has a place.
    let mut vips: Vec<_> = world.vips.iter().collect();
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

/// The slots in chunks.
pub fn chunks(world: &World) -> Vec<Chunk> {
    let slots: Vec<_> = world.slot_records().collect();
    slots
        .chunks(SLOTS_PER_CHUNK as usize)
        .map(|part| {
            let mut slots = [0; SLOTS_PER_CHUNK as usize];
            slots[..part.len()].copy_from_slice(part);
            Chunk { slots }
        })
        .collect()
}

/// Tables of this world's size.
pub fn memory(world: &World, flow_buckets: u32) -> MemTables {
    let mut tables = MemTables::new(
        world.services.len(),
        world.reals.len(),
        world.slots.len(),
        world.next_hops.len(),
        flow_buckets as usize,
    );
    tables.constants = Constants {
        interface_index: world.interface,
        ring_seed: world.ring_seed,
        flow_secret: world.flow_secret,
    };
    write(&mut tables, world);
    tables
}

/// Writes all tables but the flow table.
pub fn write(tables: &mut MemTables, world: &World) {
    write_vips(tables, world);
    tables.config = world.config();
    tables.services = world.service_records().collect();
    tables.reals = world.real_records().collect();
    for (budget, wanted) in tables.budgets.iter().zip(world.budget_records()) {
        budget.store(wanted.flows as u64);
    }
    tables.next_hops = world.next_hop_records().collect();
    tables.rings = chunks(world);
}

/// The flow table.
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
