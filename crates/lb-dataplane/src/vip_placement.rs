//! Whether VIP tables of some size have a place for every VIP.

use lb_common::vip_table::{
    AddressDigest, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash, edit,
};

use crate::{error::DataplaneError, table_sizes::TableSizes, vip_key::VipTableKey};

/// The sizes whose VIP tables have a place for each of `vips`: `sizes`, or larger ones. VIP tables that keep
/// their `current` size are not recreated, so their VIPs have a place already.
///
/// # Errors
/// [`DataplaneError::Full`].
pub(crate) fn with_room_for_vips(
    mut sizes: TableSizes,
    current: &TableSizes,
    secret: [u64; 2],
    vips: &[(VipTableKey, u32)],
) -> Result<TableSizes, DataplaneError> {
    while sizes.vip_buckets != current.vip_buckets && !fit(&sizes, secret, vips) {
        sizes = sizes.with_more_vips()?;
    }
    Ok(sizes)
}

fn fit(sizes: &TableSizes, secret: [u64; 2], vips: &[(VipTableKey, u32)]) -> bool {
    let hash = VipHash::new(secret, sizes.vip_buckets);
    let digest = AddressDigest::new(secret);
    let mut v4 = Vec::new();
    v4.resize_with(sizes.vip_buckets as usize, SharedVip4Bucket::default);
    let mut v6 = Vec::new();
    v6.resize_with(sizes.vip_buckets as usize, SharedVip6Bucket::default);
    // No program reads these tables.
    let mut no_wait = || {};
    vips.iter().all(|(key, service)| {
        match key {
            VipTableKey::V4(key) => {
                edit::insert(&v4, &hash, &PackedVipKey::of4(key), *service, &mut no_wait)
            }
            VipTableKey::V6(key) => {
                let name = PackedVipKey::of6(&digest, key);
                edit::insert(&v6, &hash, &name, *service, &mut no_wait)
            }
        }
        .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use lb_model::{
        options::{Forward, Track},
        vip::{Protocol, VipKey},
    };

    use super::*;
    use crate::{
        Dataplane as _, MemoryDataplane, ServiceSpec, Terms, options::Options,
        resolver::NoResolver, table_sizes::DEFAULT_FLOW_ENTRIES, vip_key::key_of,
    };

    /// VIPs of one pair of buckets, in the smallest tables under this secret.
    fn colliding(secret: [u64; 2], count: usize) -> Vec<VipKey> {
        let sizes = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        let hash = VipHash::new(secret, sizes.vip_buckets);
        let pair = |vip: &VipKey| {
            let VipTableKey::V4(key) = key_of(vip) else {
                unreachable!("an IPv4 VIP has such a key")
            };
            let word = PackedVipKey::of4(&key).word;
            let (first, second) = (hash.first(word), hash.second(word));
            (first.min(second), first.max(second))
        };
        let all = (0..0x1_0000_u32).flat_map(|address| {
            (1..=0x1000).map(move |port| {
                VipKey::new(
                    IpAddr::from((0x0A00_0000 + address).to_be_bytes()),
                    port,
                    Protocol::Tcp,
                )
            })
        });
        all.filter(|vip| pair(vip) == (7, 11)).take(count).collect()
    }

    #[test]
    fn vips_without_a_place_make_the_tables_grow() {
        let mut plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(NoResolver)).unwrap();
        let vips = colliding(crate::memory::FLOW_SECRET, 12);
        for vip in &vips {
            let spec = ServiceSpec {
                vip: *vip,
                forward: Forward::Ipip,
                terms: Terms::default(),
                track: Track::Exceptions,
                window: Duration::from_secs(60),
                reals: Vec::new(),
                down: Default::default(),
                ring: Vec::new().into(),
            };
            plane.set_service(&spec).unwrap();
        }
        assert!(plane.status().generation > 1, "{vips:?} collide");
        for vip in &vips {
            let IpAddr::V4(address) = vip.address else {
                unreachable!("an IPv4 VIP")
            };
            let mut frame = Vec::new();
            etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([198, 51, 100, 7], address.octets(), 64)
                .tcp(4_000, vip.port, 1, 1_024)
                .write(&mut frame, &[])
                .unwrap();
            let seen = plane.simulate(None, &frame).unwrap();
            assert_eq!(seen.vip, Some(*vip));
        }
    }

    #[test]
    fn only_tables_that_are_recreated_need_a_place_for_every_vip() {
        let secret = [1, 2];
        let current = TableSizes::initial(DEFAULT_FLOW_ENTRIES);
        let vips: Vec<_> = (1..)
            .zip(colliding(secret, 9))
            .map(|(i, vip)| (key_of(&vip), i))
            .collect();
        assert_eq!(
            with_room_for_vips(current, &current, secret, &vips).unwrap(),
            current
        );
        let smaller = TableSizes {
            vip_buckets: current.vip_buckets / 2,
            ..current
        };
        let found = with_room_for_vips(current, &smaller, secret, &vips).unwrap();
        assert_eq!(found.vip_buckets, 2 * current.vip_buckets);
        assert_eq!(
            with_room_for_vips(current, &smaller, secret, &vips[..8]).unwrap(),
            current
        );
    }
}
