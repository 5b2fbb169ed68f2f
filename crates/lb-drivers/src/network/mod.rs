//! The network of an instance: its namespace is connected to a bridge from outside, and made a real of VIPs.
//!
//! The program in the namespace needs no privilege and knows nothing of it. Containers and processes are alike: what counts
//! is the file of their network namespace.

pub mod bridge;
mod companion;
mod link;
mod netlink;

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
};

use lb_model::pool::{Attachment, InstanceName};
use link::Port;
use tokio::sync::broadcast;

pub use companion::SUFFIX as COMPANION_SUFFIX;
pub use link::{INNER, host_interface};
pub use netlink::{fnv, mac};

use crate::{DriverError, Hint, Owned, group::Tree};

/// Connects instances of one owner.
#[derive(Clone, Debug)]
pub struct Connector {
    owner: String,
    groups: Tree,
    agent: PathBuf,
    /// Hears when an instance's `lb-agent real` ends.
    hints: broadcast::Sender<Hint>,
}

impl Connector {
    /// For the instances of this owner.
    pub fn new(owned: &Owned, groups: Tree, hints: broadcast::Sender<Hint>) -> Self {
        Connector {
            owner: owned.owner.clone(),
            groups,
            agent: owned.agent.clone(),
            hints,
        }
    }

    /// Connects the network namespace of a process, and makes it a real of its VIPs. What is connected already stays.
    /// `folder` is the instance's own. Blocks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn connect(
        &self,
        name: &InstanceName,
        pid: u32,
        address: IpAddr,
        attachment: &Attachment,
        folder: &Path,
    ) -> Result<(), DriverError> {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).map_err(|error| {
            DriverError::failed(format!("connecting {name}: opening {path}"), error)
        })?;
        let connect = || {
            let ports = Port::all(&self.owner, name, address, attachment);
            ports
                .iter()
                .try_for_each(|port| link::connect(&namespace, port))?;
            if ports.len() > 1 {
                link::keep_apart(namespace)?;
            }
            Ok(())
        };
        connect().map_err(|why: String| DriverError::failed(format!("connecting {name}"), why))?;
        companion::start(self, name, pid, attachment, folder)
    }

    /// What is missing of an instance's network; `None` if it is complete.
    pub fn fault(
        &self,
        name: &InstanceName,
        address: IpAddr,
        attachment: &Attachment,
        folder: &Path,
    ) -> Option<String> {
        let ports = Port::all(&self.owner, name, address, attachment);
        link::fault(&ports).or_else(|| companion::fault(self, name, attachment, folder))
    }

    /// The names of the interfaces by which a virtual machine is connected.
    pub fn taps(
        &self,
        name: &InstanceName,
        address: IpAddr,
        attachment: &Attachment,
    ) -> Vec<String> {
        let ports = Port::all(&self.owner, name, address, attachment);
        ports.into_iter().map(|port| port.host).collect()
    }

    /// Connects the interfaces of a virtual machine, which its process has made, to their bridges. Blocks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn connect_taps(
        &self,
        name: &InstanceName,
        address: IpAddr,
        attachment: &Attachment,
    ) -> Result<(), DriverError> {
        let ports = Port::all(&self.owner, name, address, attachment);
        ports
            .iter()
            .try_for_each(link::plug)
            .map_err(|why| DriverError::failed(format!("connecting {name}"), why))
    }

    /// What is missing of a virtual machine's network; `None` if it is complete. Blocks.
    pub fn tap_fault(
        &self,
        name: &InstanceName,
        address: IpAddr,
        attachment: &Attachment,
    ) -> Option<String> {
        link::fault(&Port::all(&self.owner, name, address, attachment))
    }

    /// Takes an instance off the network. Blocks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn disconnect(&self, name: &InstanceName) -> Result<(), DriverError> {
        companion::stop(self, name)?;
        link::remove_further(&self.owner, name)
            .and_then(|()| link::remove(&host_interface(&self.owner, name)))
            .map_err(|why| DriverError::failed(format!("disconnecting {name}"), why))
    }
}
