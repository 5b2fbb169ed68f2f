//! Editing the VIP tables in the kernel's memory.

use lb_common::tables::meta::Meta;
use lb_common::vip_table::{
    AddressDigest, PackedVipKey, SharedVip4Bucket, SharedVip6Bucket, VipHash,
    edit::{self, BucketsFull},
};

use super::{bpf, tables::KernelTables};
use crate::vip_key::VipTableKey;

impl KernelTables {
    fn vip_hash(&self) -> (VipHash, AddressDigest) {
        let meta: Meta = self.meta.read(0);
        (
            VipHash::new(meta.flow_secret, self.sizes.vip_buckets),
            AddressDigest::new(meta.flow_secret),
        )
    }

    /// Adds a key or changes its service, in place.
    ///
    /// # Errors
    /// [`BucketsFull`] if the tables must grow first.
    pub fn insert_vip(&mut self, key: &VipTableKey, service: u32) -> Result<(), BucketsFull> {
        let (hash, digest) = self.vip_hash();
        let mut wait = bpf::wait_for_programs;
        match key {
            VipTableKey::V4(key) => {
                let table = self.vips4.shared::<SharedVip4Bucket>();
                edit::insert(table, &hash, &PackedVipKey::of4(key), service, &mut wait)
            }
            VipTableKey::V6(key) => {
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

    /// Removes a key, in place; does nothing if it is not there.
    pub fn remove_vip(&mut self, key: &VipTableKey) {
        let (hash, digest) = self.vip_hash();
        match key {
            VipTableKey::V4(key) => {
                let table = self.vips4.shared::<SharedVip4Bucket>();
                edit::remove(table, &hash, &PackedVipKey::of4(key));
            }
            VipTableKey::V6(key) => {
                let table = self.vips6.shared::<SharedVip6Bucket>();
                edit::remove(table, &hash, &PackedVipKey::of6(&digest, key));
            }
        }
    }

    /// Every key and its service.
    pub fn vips(&self) -> Vec<(VipTableKey, u32)> {
        let v4 =
            edit::vips4(self.vips4.shared()).map(|(key, service)| (VipTableKey::V4(key), service));
        let v6 =
            edit::vips6(self.vips6.shared()).map(|(key, service)| (VipTableKey::V6(key), service));
        v4.chain(v6).collect()
    }
}
