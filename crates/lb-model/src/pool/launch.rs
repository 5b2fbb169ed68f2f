//! One instance, as a driver makes it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{InstanceName, Vm, template::fill};
use crate::settings::FieldError;

/// Where a container sees the folder of its files.
pub const FILES: &str = "/etc/lb";

/// All that a driver needs to make an instance: the pool's template with what is this instance's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The instance.
    pub name: InstanceName,
    /// Image of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The virtual machine, of the driver `qemu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<Vm>,
    /// Program and arguments; a container without a program runs the image's with these arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Environment variables; nothing else is in a process's environment but `PATH`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// User, and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<(u32, Option<u32>)>,
    /// CPU limit in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Memory limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Labels of the operator.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Folder on the host, and where the instance sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<(PathBuf, PathBuf)>,
    /// Files of its own by name, which the driver writes on the host that makes it, and removes with it. An instance that has
    /// some begins in their folder; a container sees it at [`FILES`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Where it is reached.
    pub endpoint: SocketAddr,
    /// How it gets there.
    pub network: Network,
}

/// The network of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Network {
    /// The host's: the endpoint is an address and a port of the host.
    Host {
        /// Port inside a container, which the engine publishes as the endpoint's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inner_port: Option<u16>,
    },
    /// A network namespace of its own with the endpoint's address, connected to a bridge of the host.
    Bridge(Attachment),
}

/// How an instance's network namespace is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The bridge, in the controller's network namespace.
    pub bridge: String,
    /// Length of the prefix of the instance's network.
    pub prefix: u8,
    /// Default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// MTU of the instance's interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// VIPs that the instance answers for itself (DSR); without any it is no real of a balancer.
    #[serde(default)]
    pub vips: Vec<IpAddr>,
    /// Whether packets for the VIPs come encapsulated.
    #[serde(default)]
    pub encapsulated: bool,
    /// Further bridges that it is connected to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<Leg>,
}

/// A further connection of an instance's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The bridge, in the controller's network namespace.
    pub bridge: String,
    /// Address of the instance there.
    pub address: IpAddr,
    /// Length of the prefix.
    pub prefix: u8,
    /// MTU of the instance's interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Launch {
    /// Replaces placeholders in a text of the template by what is this instance's own.
    ///
    /// # Errors
    /// An unknown placeholder, which a validated template does not have.
    pub(super) fn fill(
        name: &InstanceName,
        endpoint: SocketAddr,
        text: &str,
    ) -> Result<String, FieldError> {
        fill(text, |placeholder| {
            Some(match placeholder {
                "name" => name.to_string(),
                "pool" => name.pool.to_string(),
                "number" => name.number.to_string(),
                "address" => endpoint.ip().to_string(),
                "port" => endpoint.port().to_string(),
                _ => return None,
            })
        })
    }

    /// The connection to a bridge, if it has a network of its own.
    #[must_use]
    pub const fn attachment(&self) -> Option<&Attachment> {
        match &self.network {
            Network::Bridge(attachment) => Some(attachment),
            Network::Host { .. } => None,
        }
    }
}
