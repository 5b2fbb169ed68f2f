//! The tables of server ids: which real of a service has which, and how connection ids of QUIC are read.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    limits::MAX_QUIC_LB,
    tables::server_id::{CONFIG_BITS, QuicLb, ServerIdKey, quic_lb_key},
};

use crate::{backend::TableBackend, error::DataplaneError, service::ServerIds};

/// What the tables have.
///
/// There is room for an id of every real, and real and service are looked at again when a packet names them. So an entry
/// that is left behind sends no packet to a real that does not serve it.
#[derive(Debug, Default)]
pub(crate) struct ServerIdIndex {
    /// Index of the real.
    ids: BTreeMap<ServerIdKey, u32>,
    /// By [`quic_lb_key`]; of configurations that were adopted it is not known what they say.
    configs: BTreeMap<u32, Option<QuicLb>>,
}

impl ServerIdIndex {
    /// Takes over what an earlier agent left; what is of no service is removed.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn adopt<B: TableBackend>(
        &mut self,
        backend: &mut B,
        is_service: impl Fn(u32) -> bool,
    ) -> Result<(), DataplaneError> {
        for (key, real) in backend.server_ids()? {
            if is_service(key.service) {
                self.ids.insert(key, real);
            } else {
                backend.remove_server_id(&key)?;
            }
        }
        for key in backend.quic_lb()? {
            if is_service(key >> CONFIG_BITS) {
                self.configs.insert(key, None);
            } else {
                backend.remove_quic_lb(key)?;
            }
        }
        Ok(())
    }

    /// Ids and configurations.
    pub fn used(&self) -> [u64; 2] {
        [self.ids.len() as u64, self.configs.len() as u64]
    }

    /// Whether there is room for a service's configurations; `service` is `None` for a new one.
    ///
    /// # Errors
    /// [`DataplaneError::Full`].
    pub fn check_room(&self, service: Option<u32>, ids: &ServerIds) -> Result<(), DataplaneError> {
        let is_other = |key: &&u32| Some(**key >> CONFIG_BITS) != service;
        let others = self.configs.keys().filter(is_other).count();
        if others + ids.quic_lb.len() > MAX_QUIC_LB as usize {
            return Err(DataplaneError::Full {
                table: "QUIC_LB",
                capacity: u64::from(MAX_QUIC_LB),
                advice: "remove configurations of quic-lb that no server uses any more",
            });
        }
        Ok(())
    }

    /// Makes a service's entries those of the change; `reals` are ids and indices of its reals.
    ///
    /// # Errors
    /// [`DataplaneError::System`]; what was done until then is known, so the next change goes on.
    pub fn set<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
        ids: &ServerIds,
        reals: impl Iterator<Item = (u128, u16)>,
    ) -> Result<(), DataplaneError> {
        let wanted: BTreeMap<ServerIdKey, u32> = reals
            .map(|(id, real)| (ServerIdKey::new(service, id), u32::from(real)))
            .collect();
        self.remove_ids(backend, service, |key| wanted.contains_key(key))?;
        for (key, real) in wanted {
            if self.ids.get(&key) != Some(&real) {
                backend.insert_server_id(&key, real)?;
                self.ids.insert(key, real);
            }
        }
        let wanted: BTreeMap<u32, QuicLb> = ids
            .quic_lb
            .iter()
            .map(|config| (quic_lb_key(service, config.config), config.record()))
            .collect();
        self.remove_configs(backend, service, |key| wanted.contains_key(&key))?;
        for (key, record) in wanted {
            if self.configs.get(&key) != Some(&Some(record)) {
                backend.insert_quic_lb(key, &record)?;
                self.configs.insert(key, Some(record));
            }
        }
        Ok(())
    }

    /// Removes a service's entries.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn remove<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
    ) -> Result<(), DataplaneError> {
        self.remove_ids(backend, service, |_| false)?;
        self.remove_configs(backend, service, |_| false)
    }

    fn remove_ids<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
        stays: impl Fn(&ServerIdKey) -> bool,
    ) -> Result<(), DataplaneError> {
        let gone: BTreeSet<ServerIdKey> = self
            .ids
            .keys()
            .filter(|key| key.service == service && !stays(key))
            .copied()
            .collect();
        for key in gone {
            backend.remove_server_id(&key)?;
            self.ids.remove(&key);
        }
        Ok(())
    }

    fn remove_configs<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
        stays: impl Fn(u32) -> bool,
    ) -> Result<(), DataplaneError> {
        let gone: Vec<u32> = self
            .configs
            .keys()
            .copied()
            .filter(|key| key >> CONFIG_BITS == service && !stays(*key))
            .collect();
        for key in gone {
            backend.remove_quic_lb(key)?;
            self.configs.remove(&key);
        }
        Ok(())
    }
}
