//! Bridges of the host that are kept as they are wanted: made, adopted after a restart, mended, and removed.
//!
//! - [`plan`]: what has to be done, purely.
//! - `kernel.rs`: what there is, and doing it.
//!
//! A bridge is told by its name and its alias. What has another alias is never touched. The host has no part in a bridge
//! without an address there: it neither takes packets from it nor answers for its addresses, and it never forwards any.

mod kernel;
pub mod plan;

use std::{collections::BTreeMap, net::IpAddr};

pub use plan::{Mend, Seen};

use super::netlink::{self, fnv};

/// How often what was done is looked at again before it counts as failed.
const ROUNDS: usize = 4;

/// A bridge, as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The interface.
    pub name: String,
    /// Says whose it is.
    pub alias: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The host's address on it, with the length of the prefix.
    pub address: Option<(IpAddr, u8)>,
    /// Its MTU; `None` is that of its ports.
    pub mtu: Option<u32>,
    /// How it spans hosts.
    pub vxlan: Option<Vxlan>,
}

/// A VXLAN, which is a port of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Its id.
    pub id: u32,
    /// UDP port.
    pub port: u16,
    /// Interface that its packets leave by.
    pub underlay: Option<String>,
    /// Addresses of the other hosts.
    pub peers: Vec<IpAddr>,
}

impl Bridge {
    /// The bridge of the object with this id of an owner's, without an address and on this host only.
    #[must_use]
    pub fn named(owner: &str, id: u64) -> Self {
        // Two hosts of one VXLAN have bridges of one name.
        let host = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Bridge {
            name: Self::name_of(owner, id),
            alias: format!("{}{id}", alias_prefix(owner)),
            mac: netlink::mac(&format!("{owner}/{id}/{}", host.trim())),
            address: None,
            mtu: None,
            vxlan: None,
        }
    }

    /// The interface of the bridge of the object with this id of an owner's: the same in every run.
    #[must_use]
    pub fn name_of(owner: &str, id: u64) -> String {
        format!("lbs{:012x}", fnv(&format!("{owner}/subnet/{id}")) >> 16)
    }

    /// The name of the interface of its VXLAN.
    #[must_use]
    pub fn vxlan_name(&self) -> String {
        self.name.replacen("lbs", "lbv", 1)
    }
}

/// What the aliases of an owner's bridges begin with.
fn alias_prefix(owner: &str) -> String {
    format!("lb-controller {owner} subnet ")
}

/// What became of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What was done, in words.
    pub done: Vec<String>,
    /// Its ports, without that of the VXLAN.
    pub ports: Vec<String>,
}

/// A bridge of the owner that is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The interface.
    pub name: String,
    /// Its ports, without that of a VXLAN.
    pub ports: Vec<String>,
}

/// Looks at all bridges of an owner, and makes them as they are wanted. `ports` are those that each had before, by its name: when
/// it has to be made again, those that are ports of nothing become its ports. Returns what became of each, and the owner's others. Blocks.
///
/// # Errors
/// The kernel does not say what there is; what fails for one bridge is in its result.
#[expect(clippy::type_complexity, reason = "a result for each, and a list")]
pub fn keep(
    owner: &str,
    wanted: &[Bridge],
    ports: &BTreeMap<String, Vec<String>>,
) -> Result<(BTreeMap<String, Result<Kept, String>>, Vec<Stranger>), String> {
    netlink::with_netlink(None, async |handle| {
        let mut results: BTreeMap<String, Result<Kept, String>> = BTreeMap::new();
        let has_peers = wanted.iter().any(|bridge| bridge.vxlan.is_some());
        let mut seen = kernel::look(&handle, has_peers).await?;
        let before = |bridge: &Bridge| {
            let is_gone = seen.link(&bridge.name).is_none();
            let ports = ports.get(&bridge.name).filter(|_| is_gone);
            ports.map(Vec::as_slice).unwrap_or_default()
        };
        let mut open: Vec<(&Bridge, &[String])> = wanted
            .iter()
            .map(|bridge| (bridge, before(bridge)))
            .collect();
        for _ in 0..ROUNDS {
            let mut further = Vec::new();
            for (bridge, before) in open {
                let result = results
                    .entry(bridge.name.clone())
                    .or_insert(Ok(Kept::default()));
                let done = match plan::mends(bridge, before, &seen) {
                    Ok(mends) => kernel::mend(&handle, bridge, &mends, &seen).await,
                    Err(why) => Err(why),
                };
                match (done, result) {
                    (Err(why), result) => *result = Err(why),
                    (Ok(done), Ok(kept)) if !done.is_empty() => {
                        kept.done.extend(done);
                        further.push((bridge, before));
                    }
                    _ => {}
                }
            }
            if further.is_empty() {
                break;
            }
            seen = kernel::look(&handle, has_peers).await?;
            open = further;
        }
        for bridge in wanted {
            if let Some(Ok(kept)) = results.get_mut(&bridge.name) {
                kept.ports = seen.ports(&bridge.name, &bridge.vxlan_name());
            }
        }
        let prefix = alias_prefix(owner);
        let is_stranger = |link: &&plan::Link| {
            link.kind == plan::BRIDGE
                && link.alias.starts_with(&prefix)
                && wanted.iter().all(|bridge| bridge.name != link.name)
        };
        let strangers = seen.links.iter().filter(is_stranger).map(|link| Stranger {
            name: link.name.clone(),
            ports: seen.ports(&link.name, &link.name.replacen("lbs", "lbv", 1)),
        });
        Ok((results, strangers.collect()))
    })
}

/// Removes a bridge and its VXLAN, if they are there. Blocks.
///
/// # Errors
/// The kernel refuses it.
pub fn remove(name: &str) -> Result<(), String> {
    let vxlan = name.replacen("lbs", "lbv", 1);
    netlink::with_netlink(None, async |handle| {
        netlink::delete(&handle, &vxlan).await?;
        netlink::delete(&handle, name).await
    })
}
