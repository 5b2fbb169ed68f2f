//! Sizes of the tables, and how they grow.
//!
//! Tables start small, so that an idle balancer takes little memory, and grow when something does not fit.
//! Growing makes new maps and new programs (see [`crate::kernel`]), so it happens in large steps.

use lb_common::limits::{
    FLOWS_PER_BUCKET, MAX_NEXT_HOPS, MAX_QUIC_LB, MAX_REALS, MAX_SERVICES, MAX_TOTAL_RING_SLOTS,
    MAX_VIP_BUCKETS, SOURCE_LIMITS, VIPS_PER_BUCKET,
};
use lb_common::vip_table::VipHash;

use crate::error::DataplaneError;

/// Flows that the flow table has room for by default.
pub const DEFAULT_FLOW_ENTRIES: u32 = 131_072;
/// Largest flow table: 2^24 entries, 512 MiB.
pub const MAX_FLOW_ENTRIES: u32 = 1 << 24;

/// Entries of the table of translated connections if there are none.
pub const MIN_NAT_FLOWS: u32 = 128;
/// Fewest translated connections that it has room for: each CPU takes entries for itself in portions of 128.
pub const MIN_NAT_CONNECTIONS: u32 = 2_048;
/// Translated connections that the table has room for by default: 51 MiB.
pub const DEFAULT_NAT_CONNECTIONS: u32 = 131_072;
/// Most translated connections that it can have room for.
pub const MAX_NAT_CONNECTIONS: u32 = 1 << 22;

/// Up to here rings grow fourfold: 4 MiB.
const RING_FOURFOLD_LIMIT: u32 = 1 << 20;
/// From here on (16 MiB) rings grow by an eighth instead of doubling: they are most of the memory.
const RING_DOUBLING_LIMIT: u32 = 1 << 22;
/// Ring space is a multiple of this many slots: the largest ring of one service.
const RING_STEP: u32 = 1 << 16;

/// Entries of each table that can grow, and of the flow table, which cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Service indices, index 0 included.
    pub services: u32,
    /// Real indices, index 0 included.
    pub reals: u32,
    /// Next-hop indices, index 0 included.
    pub next_hops: u32,
    /// Slots of all rings.
    pub ring_slots: u32,
    /// Buckets of each VIP table, a power of two.
    pub vip_buckets: u32,
    /// Buckets of the flow table, a power of two.
    pub flow_buckets: u32,
    /// Entries of the table of translated connections, two for each connection.
    pub nat_flows: u32,
    /// Words for the limits of source prefixes: 1 or [`SOURCE_LIMITS`].
    pub source_limits: u32,
    /// Server ids of reals, 1 or [`MAX_REALS`].
    pub server_ids: u32,
}

/// What the tables have room for only if some service uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Translated connections, if some service translates.
    pub nat_connections: Option<u32>,
    /// Whether some service limits the connections that begin.
    pub flow_limits: bool,
    /// Whether packets of some service name their real.
    pub server_ids: bool,
}

/// Services that the tables have room for at first.
const FIRST_SERVICES: u32 = 256;

impl TableSizes {
    /// The sizes of an idle balancer's tables, with room for `flow_entries` flows.
    #[must_use]
    pub fn initial(flow_entries: u32) -> TableSizes {
        TableSizes {
            services: FIRST_SERVICES,
            reals: 1_024,
            next_hops: 256,
            ring_slots: 1 << 17,
            vip_buckets: vip_buckets(FIRST_SERVICES),
            flow_buckets: flow_buckets(flow_entries),
            nat_flows: MIN_NAT_FLOWS,
            source_limits: 1,
            server_ids: 1,
        }
    }

    /// Configurations of QUIC-LB.
    #[must_use]
    pub fn quic_lb(&self) -> u32 {
        self.server_ids.min(MAX_QUIC_LB)
    }

    /// These sizes, with room for what some service uses. The table of translated connections does not grow further: its
    /// entries would be lost.
    #[must_use]
    pub fn with(self, extras: Extras) -> TableSizes {
        let nat_flows = match extras.nat_connections {
            Some(connections) if self.nat_flows <= MIN_NAT_FLOWS => {
                2 * connections.clamp(MIN_NAT_CONNECTIONS, MAX_NAT_CONNECTIONS)
            }
            _ => self.nat_flows,
        };
        TableSizes {
            nat_flows,
            source_limits: if extras.flow_limits {
                SOURCE_LIMITS
            } else {
                self.source_limits
            },
            server_ids: if extras.server_ids {
                MAX_REALS
            } else {
                self.server_ids
            },
            ..self
        }
    }

    /// The sizes with larger VIP tables, when a VIP finds no place in these.
    ///
    /// # Errors
    /// [`DataplaneError::Full`].
    pub fn with_more_vips(&self) -> Result<TableSizes, DataplaneError> {
        if self.vip_buckets >= MAX_VIP_BUCKETS {
            return Err(DataplaneError::Full {
                table: "VIPS",
                capacity: u64::from(MAX_VIP_BUCKETS) * VIPS_PER_BUCKET as u64,
                advice: "use another address or port; these collide with others",
            });
        }
        Ok(TableSizes {
            vip_buckets: self.vip_buckets * 2,
            ..*self
        })
    }

    /// Sizes with room for `services`, `reals`, `next_hops` and `ring_slots` (each a number of entries,
    /// reserved ones included); `None` if these sizes have it.
    ///
    /// Growing takes new programs, which the kernel verifies again. So when one table grows, each table that
    /// would be nearly full grows with it: a stream of new VIPs takes few steps.
    ///
    /// # Errors
    /// [`DataplaneError::Full`] if a table would pass its limit.
    pub fn grown(
        &self,
        services: u32,
        reals: u32,
        next_hops: u32,
        ring_slots: u32,
    ) -> Result<Option<TableSizes>, DataplaneError> {
        let mut sizes = TableSizes {
            services: doubled(
                "SERVICES",
                self.services,
                services,
                MAX_SERVICES,
                "delete VIPs or use another balancer",
            )?,
            reals: doubled(
                "REALS",
                self.reals,
                reals,
                MAX_REALS,
                "delete reals or use another balancer",
            )?,
            next_hops: doubled(
                "NEXT_HOPS",
                self.next_hops,
                next_hops,
                MAX_NEXT_HOPS,
                "put reals behind routers instead of on connected networks",
            )?,
            ring_slots: self.grown_rings(ring_slots)?,
            vip_buckets: self.vip_buckets,
            flow_buckets: self.flow_buckets,
            nat_flows: self.nat_flows,
            source_limits: self.source_limits,
            server_ids: self.server_ids,
        };
        if sizes == *self {
            return Ok(None);
        }
        sizes.services = ahead(sizes.services, services, MAX_SERVICES);
        sizes.vip_buckets = sizes.vip_buckets.max(vip_buckets(sizes.services));
        sizes.reals = ahead(sizes.reals, reals, MAX_REALS);
        sizes.next_hops = ahead(sizes.next_hops, next_hops, MAX_NEXT_HOPS);
        sizes.ring_slots = ahead(sizes.ring_slots, ring_slots, RING_DOUBLING_LIMIT);
        Ok(Some(sizes))
    }

    fn grown_rings(&self, needed: u32) -> Result<u32, DataplaneError> {
        if needed > MAX_TOTAL_RING_SLOTS {
            return Err(DataplaneError::Full {
                table: "RINGS",
                capacity: u64::from(MAX_TOTAL_RING_SLOTS),
                advice: "give some VIPs fewer slots",
            });
        }
        let mut slots = self.ring_slots;
        while slots < needed {
            let step = match slots {
                ..RING_FOURFOLD_LIMIT => slots * 3,
                RING_FOURFOLD_LIMIT..RING_DOUBLING_LIMIT => slots,
                _ => slots / 8,
            };
            slots = (slots + step)
                .next_multiple_of(RING_STEP)
                .min(MAX_TOTAL_RING_SLOTS);
        }
        Ok(slots)
    }
}

/// Buckets of the VIP tables for this many services: one per key (each service has one, and its address one
/// for echo requests), so hardly one in 200 keys has to go to its second bucket even if all are of one
/// family.
#[must_use]
fn vip_buckets(services: u32) -> u32 {
    (services * 2)
        .next_power_of_two()
        .clamp(VipHash::LEAST, MAX_VIP_BUCKETS)
}

const _: () = assert!(2 * MAX_SERVICES <= MAX_VIP_BUCKETS / 4, "room to grow");

/// Buckets for this many flows: a flow has two buckets of four entries to go to, and hardly one flow has
/// to give way below 80 % of the room.
#[must_use]
pub fn flow_buckets(entries: u32) -> u32 {
    let entries = entries.clamp(1_024, MAX_FLOW_ENTRIES);
    (entries + entries / 4)
        .div_ceil(FLOWS_PER_BUCKET as u32)
        .next_power_of_two()
}

fn doubled(
    table: &'static str,
    current: u32,
    needed: u32,
    limit: u32,
    advice: &'static str,
) -> Result<u32, DataplaneError> {
    if needed > limit {
        return Err(DataplaneError::Full {
            table,
            capacity: u64::from(limit),
            advice,
        });
    }
    let mut size = current;
    while size < needed {
        size *= 2;
    }
    Ok(size.min(limit.max(current)))
}

/// Twice the size if it would be more than three quarters full, up to `limit`.
fn ahead(size: u32, needed: u32, limit: u32) -> u32 {
    if needed > size - size / 4 && size < limit {
        (size * 2).min(limit)
    } else {
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_does_not_grow() {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        assert_eq!(sizes.grown(256, 1_024, 256, 1 << 17).unwrap(), None);
    }

    #[test]
    fn tables_grow_to_what_is_needed_and_no_further_than_their_limits() {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        let grown = sizes.grown(257, 5_000, 1, 6_553_600).unwrap().unwrap();
        assert_eq!(
            (grown.services, grown.reals, grown.next_hops),
            (512, 8_192, 256)
        );
        assert!(
            grown.ring_slots >= 6_553_600 && grown.ring_slots <= 7_100_000,
            "{}",
            grown.ring_slots
        );
        let full = sizes
            .grown(MAX_SERVICES, MAX_REALS, MAX_NEXT_HOPS, MAX_TOTAL_RING_SLOTS)
            .unwrap()
            .unwrap();
        assert_eq!((full.services, full.reals), (MAX_SERVICES, MAX_REALS));
        assert_eq!(full.ring_slots, MAX_TOTAL_RING_SLOTS);
        for (services, reals, slots) in [
            (MAX_SERVICES + 1, 0, 0),
            (0, 32_769, 0),
            (0, 0, (1 << 26) + 1),
        ] {
            assert!(matches!(
                sizes.grown(services, reals, 0, slots),
                Err(DataplaneError::Full { .. })
            ));
        }
    }

    #[test]
    fn what_no_service_uses_takes_no_room() {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        assert_eq!(sizes.with(Extras::default()), sizes);
        assert_eq!((sizes.nat_flows, sizes.source_limits), (MIN_NAT_FLOWS, 1));
        let of = |nat_connections| Extras {
            nat_connections,
            flow_limits: true,
            server_ids: true,
        };
        let grown = sizes.with(of(Some(10_000)));
        assert_eq!(
            (grown.nat_flows, grown.source_limits),
            (20_000, SOURCE_LIMITS)
        );
        assert_eq!(
            (grown.server_ids, grown.quic_lb()),
            (MAX_REALS, MAX_QUIC_LB)
        );
        // Once there are connections, the table stays as it is.
        assert_eq!(grown.with(of(Some(20_000))), grown);
        assert_eq!(sizes.with(of(Some(1))).nat_flows, 2 * MIN_NAT_CONNECTIONS);
    }

    #[test]
    fn what_is_nearly_full_grows_with_the_others() {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        let grown = sizes.grown(200, 1_025, 10, 120_000).unwrap().unwrap();
        assert_eq!(
            (
                grown.services,
                grown.reals,
                grown.next_hops,
                grown.ring_slots
            ),
            (512, 2_048, 256, 1 << 18)
        );
        assert_eq!(sizes.grown(200, 1_000, 10, 120_000).unwrap(), None);
    }

    /// Each step has the kernel verify the programs again.
    #[test]
    fn a_thousand_vips_of_ten_reals_take_few_steps() {
        let mut sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        let mut steps = 0;
        for vips in 1..=1_000 {
            if let Some(grown) = sizes
                .grown(1 + vips, 1 + 10 * vips, 2, 4_096 * vips)
                .unwrap()
            {
                sizes = grown;
                steps += 1;
            }
        }
        assert!(steps <= 6, "{steps} steps to {sizes:?}");
    }

    #[test]
    fn vip_tables_grow_with_services_and_by_themselves() {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        assert_eq!(sizes.vip_buckets, 512);
        let mut grown = sizes.grown(257, 1, 1, 1).unwrap().unwrap();
        assert_eq!(grown.vip_buckets, 1_024);
        while let Ok(more) = grown.with_more_vips() {
            assert_eq!(more.vip_buckets, 2 * grown.vip_buckets);
            grown = more;
        }
        assert_eq!(grown.vip_buckets, MAX_VIP_BUCKETS);
        let more = grown.grown(513, 1, 1, 1).unwrap().unwrap();
        assert_eq!(more.vip_buckets, MAX_VIP_BUCKETS, "they do not shrink");
    }

    #[test]
    fn flows_have_the_room_asked_for() {
        assert_eq!(flow_buckets(131_072), 1 << 16);
        assert_eq!(flow_buckets(1_048_576), 1 << 19);
        assert_eq!(flow_buckets(0), 512);
    }
}
