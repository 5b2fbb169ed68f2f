//! Rebuilding the engine's parts from the tables that an earlier agent left.

use std::{collections::HashMap, net::IpAddr};

use lb_common::tables::{real::DELETED, vip::ECHO_SERVICE};
use lb_model::{options::Forward, vip::VipKey};

use super::{
    Engine,
    real_record::{forward_of, id_of},
    service_ring::ServiceRing,
    service_table::{RealEntry, ServiceEntry},
    tracking::Tracking,
    wide_index::WideIndex,
};
use crate::{
    backend::TableBackend,
    error::{DataplaneError, system},
    service::RecordTerms,
    stats::Counters,
    vip_key::{self, VipTableKey},
};

impl<B: TableBackend> Engine<B> {
    /// Rebuilds the parts from the tables. The earlier agent may have died between any two stores: what no
    /// VIP leads to is freed, and a half-done change is finished by the next `set_service`.
    pub(super) fn adopt(&mut self) -> Result<(), DataplaneError> {
        let now = self.backend.now();
        let mut echo_keys = Vec::new();
        let mut vips = HashMap::new();
        for (key, service) in self.backend.vips()? {
            match vip_key::vip_of(&key) {
                Some(vip) if service != ECHO_SERVICE && service < self.backend.sizes().services => {
                    if vips.insert(service, vip).is_some() {
                        return Err(system("reading the VIP tables")(format!(
                            "two VIPs name service {service}, one of them {vip}; the tables are damaged: remove them \
                             with `lb-agent detach`, which ends forwarding, and start again"
                        )));
                    }
                }
                _ if vip_key::is_tunnel_key(&key) => {
                    if !self.tunnel_ends.contains(&vip_key::address_of(&key)) {
                        self.backend.remove_vip(key)?;
                    }
                }
                _ if service == ECHO_SERVICE => echo_keys.push(key),
                _ => self.backend.remove_vip(key)?,
            }
        }
        let mut wide = Vec::new();
        for (vip, service) in WideIndex::left(&self.backend)? {
            if service < self.backend.sizes().services && !vips.contains_key(&service) {
                vips.insert(service, vip);
                wide.push((vip, service));
            }
        }
        self.wide.adopt(&mut self.backend, &wide)?;
        for (&index, &vip) in &vips {
            self.adopt_service(index, vip, now);
        }
        for index in 1..self.backend.sizes().reals {
            self.adopt_real(index as u16, &vips, now);
        }
        self.server_ids
            .adopt(&mut self.backend, |service| vips.contains_key(&service))?;
        self.source_rules
            .adopt(&mut self.backend, |service| vips.contains_key(&service))?;
        self.adopt_echo_keys(&echo_keys)?;
        for address in self.tunnel_ends.clone() {
            self.backend
                .insert_vip(vip_key::tunnel_key(address), ECHO_SERVICE)?;
        }
        self.set_config_flags();
        Ok(())
    }

    fn adopt_service(&mut self, index: u32, vip: VipKey, now: u32) {
        self.services.reserve(index);
        self.vips.insert(&vip);
        let record = self.backend.service(index);
        let ring = ServiceRing::adopted(
            &self.backend,
            &mut self.ring_space,
            record.ring,
            record.window,
            now,
        );
        let ring = ring.unwrap_or_else(|| {
            self.warnings.push(format!(
                "the ring of {vip} was damaged and is recreated: some of its running flows move to other reals"
            ));
            self.backend.set_ring_place(index, 0);
            ServiceRing::new(now)
        });
        self.services.insert(ServiceEntry {
            index,
            vip,
            // The records of its reals say it.
            translates: false,
            tracking: Tracking::adopted(vip.protocol, &record, now),
            terms: RecordTerms::of(&record),
            window: record.window,
            reals: Vec::new(),
            ring,
            retired: Counters::default(),
        });
    }

    fn adopt_real(&mut self, index: u16, vips: &HashMap<u32, VipKey>, now: u32) {
        let record = self.backend.real(u32::from(index));
        if record.flags == 0 {
            return;
        }
        let hop =
            (record.next_hop != 0 && record.next_hop < self.backend.sizes().next_hops).then(|| {
                let hop = self.backend.next_hop(record.next_hop);
                self.next_hops.reserve(record.next_hop, &hop);
                hop
            });
        let entry = vips
            .get(&record.service)
            .and_then(|vip| self.services.get_mut(vip));
        match entry {
            Some(entry) if record.flags & DELETED == 0 => {
                let id = id_of(&record);
                // A record whose mode no option has gets the one that is wanted by the next change of its service.
                let forward = forward_of(&record).unwrap_or_default();
                entry.translates |= forward == Forward::Nat;
                entry.reals.push(RealEntry {
                    index,
                    id,
                    forward,
                    hop,
                    returned: None,
                    carried: false,
                });
                self.reals.reserve(index, record.flags);
                self.addresses.add(id.address);
            }
            _ => self.reals.reserve_retiring(index, record.service, hop, now),
        }
    }

    /// Makes exactly the addresses of VIPs answer echo requests.
    fn adopt_echo_keys(&mut self, keys: &[VipTableKey]) -> Result<(), DataplaneError> {
        for key in keys {
            if !self.vips.contains(&vip_key::address_of(key)) {
                self.backend.remove_vip(*key)?;
            }
        }
        let addresses: Vec<IpAddr> = self.vips.addresses().collect();
        for address in addresses {
            self.backend
                .insert_vip(vip_key::echo_key(address), ECHO_SERVICE)?;
        }
        Ok(())
    }
}
