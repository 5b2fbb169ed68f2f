//! The VIP tables in the kernel's memory.

use lb_common::{
    tables::meta::Meta,
    vip_table::{
        AddressDigest, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash,
        edit::{self, BucketsFull},
    },
};

use super::{DataplaneError, bpf, home::VipKey, layout::Layout, tables::KernelTables};

impl KernelTables {
    fn vip_hash(&self) -> (VipHash, AddressDigest) {
        let meta: Meta = self.meta.read(0);
        (
            VipHash::new(meta.flow_secret, self.layout.vip_buckets),
            AddressDigest::new(meta.flow_secret),
        )
    }

    /// Adds a key or changes its service, in place.
    ///
    /// # Errors
    /// [`BucketsFull`]: the tables must grow.
    pub fn insert_vip(&mut self, key: &VipKey, service: u32) -> Result<(), BucketsFull> {
        let (hash, digest) = self.vip_hash();
        let mut wait = bpf::wait_for_programs;
        match key {
            VipKey::V4(key) => {
                let table = self.vips4.shared::<SharedVip4Bucket>();
                edit::insert(table, &hash, &PackedVipKey::of4(key), service, &mut wait)
            }
            VipKey::V6(key) => {
                let table = self.vips6.shared::<SharedVip6Bucket>();
                edit::insert(
                    table,
                    &hash,
                    &PackedVipKey::of6(&digest, key),
                    service,
                    &mut wait,
                )
            }
        }
    }

    /// Removes a key, in place; it need not be there.
    pub fn remove_vip(&mut self, key: &VipKey) {
        let (hash, digest) = self.vip_hash();
        match key {
            VipKey::V4(key) => {
                let table = self.vips4.shared::<SharedVip4Bucket>();
                edit::remove(table, &hash, &PackedVipKey::of4(key));
            }
            VipKey::V6(key) => {
                let table = self.vips6.shared::<SharedVip6Bucket>();
                edit::remove(table, &hash, &PackedVipKey::of6(&digest, key));
            }
        }
    }

    /// Every key and its service.
    pub fn vips(&self) -> Vec<(VipKey, u32)> {
        let v4 = edit::vips4(self.vips4.shared()).map(|(key, service)| (VipKey::V4(key), service));
        let v6 = edit::vips6(self.vips6.shared()).map(|(key, service)| (VipKey::V6(key), service));
        v4.chain(v6).collect()
    }
}

/// The layout whose VIP tables have a place for each of the VIPs of the tables that there are: `layout`, or
/// one with larger tables.
///
/// # Errors
/// [`DataplaneError::Full`].
pub(super) fn room_for(
    mut layout: Layout,
    current: &Layout,
    secret: [u64; 2],
    vips: &[(VipKey, u32)],
) -> Result<Layout, DataplaneError> {
    while layout.vip_buckets != current.vip_buckets && !fit(&layout, secret, vips) {
        layout = layout.with_more_vips()?;
    }
    Ok(layout)
}

fn fit(layout: &Layout, secret: [u64; 2], vips: &[(VipKey, u32)]) -> bool {
    let hash = VipHash::new(secret, layout.vip_buckets);
    let digest = AddressDigest::new(secret);
    let mut four = Vec::new();
    four.resize_with(layout.vip_buckets as usize, SharedVip4Bucket::default);
    let mut six = Vec::new();
    six.resize_with(layout.vip_buckets as usize, SharedVip6Bucket::default);
    let mut nobody = || {};
    vips.iter().all(|(key, service)| {
        match key {
            VipKey::V4(key) => {
                edit::insert(&four, &hash, &PackedVipKey::of4(key), *service, &mut nobody)
            }
            VipKey::V6(key) => {
                let name = PackedVipKey::of6(&digest, key);
                edit::insert(&six, &hash, &name, *service, &mut nobody)
            }
        }
        .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use lb_common::vip::{Protocol, VipAddress};

    use super::*;
    use crate::dataplane::{
        Dataplane as _, Forward, MemoryDataplane, Track, WantedService, WhenEmpty,
        hops::NoResolver, keys::key_of, layout::DEFAULT_FLOW_ENTRIES, options::Options,
    };

    /// VIPs of one pair of buckets, in the smallest tables under this secret.
    fn colliding(secret: [u64; 2], count: usize) -> Vec<VipAddress> {
        let layout = Layout::initial(DEFAULT_FLOW_ENTRIES);
        let hash = VipHash::new(secret, layout.vip_buckets);
        let pair = |vip: &VipAddress| {
            let VipKey::V4(key) = key_of(vip) else {
                unreachable!("an IPv4 VIP has such a key")
            };
            let word = PackedVipKey::of4(&key).word;
            let (first, second) = (hash.first(word), hash.second(word));
            (first.min(second), first.max(second))
        };
        let all = (0..0x1_0000_u32).flat_map(|address| {
            (1..=0x1000).map(move |port| VipAddress {
                address: IpAddr::from((0x0A00_0000 + address).to_be_bytes()),
                port,
                protocol: Protocol::Tcp,
            })
        });
        all.filter(|vip| pair(vip) == (7, 11)).take(count).collect()
    }

    #[test]
    fn vips_without_a_place_make_the_tables_grow() {
        let mut plane =
            MemoryDataplane::new(&Options::new(Vec::new()), Box::new(NoResolver)).unwrap();
        let vips = colliding(crate::dataplane::memory::FLOW_SECRET, 12);
        for vip in &vips {
            let wanted = WantedService {
                vip: *vip,
                forward: Forward::Ipip,
                track: Track::Exceptions,
                window: Duration::from_secs(60),
                reals: Vec::new(),
                down: Default::default(),
                ring: Vec::new().into(),
                when_empty: WhenEmpty::default(),
            };
            plane.set_service(&wanted).unwrap();
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
    fn only_tables_that_are_made_anew_need_a_place_for_all() {
        let secret = [1, 2];
        let current = Layout::initial(DEFAULT_FLOW_ENTRIES);
        let vips: Vec<_> = (1..)
            .zip(colliding(secret, 9))
            .map(|(i, vip)| (key_of(&vip), i))
            .collect();
        assert_eq!(room_for(current, &current, secret, &vips).unwrap(), current);
        let smaller = Layout {
            vip_buckets: current.vip_buckets / 2,
            ..current
        };
        let found = room_for(current, &smaller, secret, &vips).unwrap();
        assert_eq!(found.vip_buckets, 2 * current.vip_buckets);
        assert_eq!(
            room_for(current, &smaller, secret, &vips[..8]).unwrap(),
            current
        );
    }
}
