//! A world as tables in memory, and what both homes need of it.

use std::net::IpAddr;

use super::world::World;
use lb_common::{
    limits::SLOTS_PER_CHUNK,
    memory::{Constants, MemTables},
    tables::{
        flow::{Bucket, Flow},
        ring::Chunk,
        vip::{Vip4Key, Vip6Key},
    },
};

/// Entries of a VIP table.
type Vips<K> = Vec<(K, u32)>;

/// The entries of both VIP tables.
pub fn vips(world: &World) -> (Vips<Vip4Key>, Vips<Vip6Key>) {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for (name, service) in &world.vips {
        let (port, protocol) = (name.port.to_be_bytes(), name.protocol);
        match name.address {
            IpAddr::V4(address) => {
                four.push((
                    Vip4Key {
                        address: address.octets(),
                        port,
                        protocol,
                        pad: 0,
                    },
                    *service,
                ));
            }
            IpAddr::V6(address) => {
                six.push((
                    Vip6Key {
                        address: address.octets(),
                        port,
                        protocol,
                        pad: 0,
                    },
                    *service,
                ));
            }
        }
    }
    (four, six)
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
    let (vips4, vips6) = vips(world);
    tables.vips4 = vips4.into_iter().collect();
    tables.vips6 = vips6.into_iter().collect();
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
