//! The network of an instance: its namespace is connected to a bridge from outside, and made a real of VIPs.
//!
//! The program in the namespace needs no privilege and knows nothing of it. Containers and processes are alike: what counts
//! is the file of their network namespace.

mod companion;
mod link;

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
};

use lb_model::pool::{Attachment, InstanceName};
use tokio::sync::broadcast;

pub use companion::SUFFIX as COMPANION_SUFFIX;
pub use link::{INNER, fnv, host_interface, mac};

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
        let host = host_interface(&self.owner, name);
        link::connect(&host, namespace, address, attachment)
            .map_err(|why| DriverError::failed(format!("connecting {name}"), why))?;
        companion::start(self, name, pid, attachment, folder)
    }

    /// What is missing of an instance's network; `None` if it is complete.
    pub fn fault(
        &self,
        name: &InstanceName,
        attachment: &Attachment,
        folder: &Path,
    ) -> Option<String> {
        let host = host_interface(&self.owner, name);
        if !link::exists(&host) {
            return Some(format!(
                "its network is not connected: there is no interface {host}"
            ));
        }
        companion::fault(self, name, attachment, folder)
    }

    /// The name of the interface by which a virtual machine is connected.
    pub fn tap(&self, name: &InstanceName) -> String {
        host_interface(&self.owner, name)
    }

    /// Connects the interface of a virtual machine, which its process has made, to the bridge. Blocks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn connect_tap(
        &self,
        name: &InstanceName,
        attachment: &Attachment,
    ) -> Result<(), DriverError> {
        link::connect_tap(&self.tap(name), attachment)
            .map_err(|why| DriverError::failed(format!("connecting {name}"), why))
    }

    /// What is missing of a virtual machine's network; `None` if it is complete. Blocks.
    pub fn tap_fault(&self, name: &InstanceName, attachment: &Attachment) -> Option<String> {
        match link::is_port(&self.tap(name), &attachment.bridge) {
            Ok(true) => None,
            Ok(false) => Some(format!(
                "its network is not connected: {} is no port of {}",
                self.tap(name),
                attachment.bridge
            )),
            Err(why) => Some(why),
        }
    }

    /// Takes an instance off the network. Blocks.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn disconnect(&self, name: &InstanceName) -> Result<(), DriverError> {
        companion::stop(self, name)?;
        link::remove(&host_interface(&self.owner, name))
            .map_err(|why| DriverError::failed(format!("disconnecting {name}"), why))
    }
}
