//! What has to be done so that a bridge is as it is wanted.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::{Bridge, Vxlan};

/// The kind of a bridge's interface.
pub const BRIDGE: &str = "bridge";
/// The kind of a VXLAN's interface.
pub const VXLAN: &str = "vxlan";

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, such as `bridge`; empty for a device.
    pub kind: String,
    /// What somebody wrote about it.
    pub alias: String,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Its MAC address.
    pub mac: Vec<u8>,
    /// Index of the bridge whose port it is.
    pub controller: Option<u32>,
    /// What a VXLAN is.
    pub vxlan: Option<VxlanLink>,
}

/// What the interface of a VXLAN is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VxlanLink {
    /// Its id.
    pub id: u32,
    /// UDP port.
    pub port: u16,
    /// Index of the interface that its packets leave by.
    pub underlay: Option<u32>,
}

/// The interfaces of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All interfaces.
    pub links: Vec<Link>,
    /// Addresses by the interface's index, with the length of the prefix.
    pub addresses: BTreeMap<u32, Vec<(IpAddr, u8)>>,
    /// Where interfaces of VXLANs send broadcasts, by index.
    pub peers: BTreeMap<u32, Vec<IpAddr>>,
}

impl Seen {
    /// The interface of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The names of a bridge's ports, but for one.
    #[must_use]
    pub fn ports(&self, bridge: &str, but: &str) -> Vec<String> {
        let index = self.link(bridge).map(|link| link.index);
        let is_port =
            |link: &&Link| index.is_some() && link.controller == index && link.name != but;
        let ports = self.links.iter().filter(is_port);
        ports.map(|link| link.name.clone()).collect()
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Make the bridge.
    Make,
    /// Write whose the bridge is, and set its MAC address.
    Mark,
    /// Bring the interface of this index up.
    Up(u32),
    /// Set the MTU of the interface of this index.
    Mtu(u32, u32),
    /// Give the host an address on the bridge.
    Address(IpAddr, u8),
    /// Take this address from the host.
    NoAddress(IpAddr, u8),
    /// Make the VXLAN.
    MakeVxlan,
    /// Remove the interface of this index, which is the VXLAN's.
    RemoveVxlan(u32),
    /// Make an interface a port of the bridge, by its index.
    Plug(u32, String),
    /// Send broadcasts to this host, too.
    Peer(IpAddr),
    /// Send this host no broadcasts any more.
    NoPeer(IpAddr),
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mend::Make => f.write_str("it is made"),
            Mend::Mark => f.write_str("it is marked"),
            Mend::Up(_) => f.write_str("it is brought up"),
            Mend::Mtu(_, mtu) => write!(f, "it gets the MTU {mtu}"),
            Mend::Address(address, _) => write!(f, "the host gets the address {address}"),
            Mend::NoAddress(address, _) => write!(f, "the host loses the address {address}"),
            Mend::MakeVxlan => f.write_str("its VXLAN is made"),
            Mend::RemoveVxlan(_) => f.write_str("its VXLAN is removed"),
            Mend::Plug(_, name) => write!(f, "{name} becomes a port"),
            Mend::Peer(peer) => write!(f, "{peer} becomes a peer"),
            Mend::NoPeer(peer) => write!(f, "{peer} is no peer any more"),
        }
    }
}

/// What has to be done now; what depends on it comes with the next look.
///
/// # Errors
/// What is in the way, in words.
pub fn mends(wanted: &Bridge, before: &[String], seen: &Seen) -> Result<Vec<Mend>, String> {
    let mut mends = Vec::new();
    let bridge = seen.link(&wanted.name);
    let Some(bridge) = bridge else {
        mends.push(Mend::Make);
        return Ok(mends);
    };
    // One without an alias was made by a run that was killed before it wrote one: nobody else gives such names.
    let is_own = bridge.alias == wanted.alias || bridge.alias.is_empty();
    if bridge.kind != BRIDGE || !is_own {
        return Err(format!(
            "the interface {} of this host is something else; remove or rename it",
            wanted.name
        ));
    }
    if bridge.alias != wanted.alias || bridge.mac != wanted.mac {
        mends.push(Mend::Mark);
    }
    if !bridge.is_up {
        mends.push(Mend::Up(bridge.index));
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != bridge.mtu) {
        mends.push(Mend::Mtu(bridge.index, mtu));
    }
    let addresses = seen.addresses.get(&bridge.index);
    let addresses = addresses.map(Vec::as_slice).unwrap_or_default();
    for (address, prefix) in addresses {
        if wanted.address != Some((*address, *prefix)) {
            mends.push(Mend::NoAddress(*address, *prefix));
        }
    }
    if let Some((address, prefix)) = wanted.address
        && !addresses.contains(&(address, prefix))
    {
        mends.push(Mend::Address(address, prefix));
    }
    let name = wanted.vxlan_name();
    match (&wanted.vxlan, seen.link(&name)) {
        (None, None) => {}
        (Some(_), None) => mends.push(Mend::MakeVxlan),
        (None, Some(link)) => mends.push(Mend::RemoveVxlan(link.index)),
        (Some(vxlan), Some(link)) => {
            of_vxlan(vxlan, link, bridge.index, seen, &mut mends)?;
            if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
                mends.push(Mend::Mtu(link.index, mtu));
            }
        }
    }
    for port in before.iter().filter(|port| **port != name) {
        // What became a port of something else meanwhile stays there.
        if let Some(link) = seen.link(port)
            && link.controller.is_none()
        {
            mends.push(Mend::Plug(link.index, link.name.clone()));
        }
    }
    Ok(mends)
}

fn of_vxlan(
    vxlan: &Vxlan,
    link: &Link,
    bridge: u32,
    seen: &Seen,
    mends: &mut Vec<Mend>,
) -> Result<(), String> {
    let underlay = match &vxlan.underlay {
        None => None,
        Some(name) => Some(
            seen.link(name)
                .ok_or_else(|| format!("there is no interface {name} on this host"))?
                .index,
        ),
    };
    let is_it = link.kind == VXLAN
        && link.vxlan.as_ref().is_some_and(|seen| {
            seen.id == vxlan.id && seen.port == vxlan.port && seen.underlay == underlay
        });
    if !is_it {
        mends.push(Mend::RemoveVxlan(link.index));
        return Ok(());
    }
    if link.controller != Some(bridge) {
        mends.push(Mend::Plug(link.index, link.name.clone()));
    }
    if !link.is_up {
        mends.push(Mend::Up(link.index));
    }
    let peers = seen.peers.get(&link.index).map(Vec::as_slice);
    let peers = peers.unwrap_or_default();
    let fresh = vxlan.peers.iter().filter(|peer| !peers.contains(peer));
    mends.extend(fresh.map(|peer| Mend::Peer(*peer)));
    let stale = peers.iter().filter(|peer| !vxlan.peers.contains(peer));
    mends.extend(stale.map(|peer| Mend::NoPeer(*peer)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Bridge {
        Bridge {
            vxlan: Some(Vxlan {
                id: 7,
                port: 4789,
                underlay: Some("eth0".to_owned()),
                peers: vec!["10.1.0.2".parse().unwrap()],
            }),
            address: Some(("10.0.0.1".parse().unwrap(), 24)),
            mtu: Some(1_400),
            ..Bridge::named("main", 3)
        }
    }

    /// A host that does what it is told.
    fn follow(seen: &mut Seen, wanted: &Bridge, mends: &[Mend]) {
        let bridge = seen.link(&wanted.name).map(|link| link.index);
        for mend in mends {
            let next = seen.links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
            let by_index = |seen: &mut Seen, index: u32| {
                let at = seen.links.iter().position(|link| link.index == index);
                at.unwrap()
            };
            match mend {
                Mend::Make => seen.links.push(Link {
                    index: next,
                    name: wanted.name.clone(),
                    kind: BRIDGE.to_owned(),
                    mtu: 1_500,
                    ..Link::default()
                }),
                Mend::Mark => {
                    let at = by_index(seen, bridge.unwrap());
                    seen.links[at].alias.clone_from(&wanted.alias);
                    seen.links[at].mac = wanted.mac.to_vec();
                }
                Mend::Up(index) => {
                    let at = by_index(seen, *index);
                    seen.links[at].is_up = true;
                }
                Mend::Mtu(index, mtu) => {
                    let at = by_index(seen, *index);
                    seen.links[at].mtu = *mtu;
                }
                Mend::Address(address, prefix) => {
                    let addresses = seen.addresses.entry(bridge.unwrap()).or_default();
                    addresses.push((*address, *prefix));
                }
                Mend::NoAddress(address, prefix) => {
                    let addresses = seen.addresses.entry(bridge.unwrap()).or_default();
                    addresses.retain(|one| *one != (*address, *prefix));
                }
                Mend::MakeVxlan => {
                    let vxlan = wanted.vxlan.as_ref().unwrap();
                    let underlay = vxlan
                        .underlay
                        .as_ref()
                        .map(|name| seen.link(name).unwrap().index);
                    seen.links.push(Link {
                        index: next,
                        name: wanted.vxlan_name(),
                        kind: VXLAN.to_owned(),
                        vxlan: Some(VxlanLink {
                            id: vxlan.id,
                            port: vxlan.port,
                            underlay,
                        }),
                        ..Link::default()
                    });
                }
                Mend::RemoveVxlan(index) => seen.links.retain(|link| link.index != *index),
                Mend::Plug(index, _) => {
                    let at = by_index(seen, *index);
                    seen.links[at].controller = bridge;
                }
                Mend::Peer(peer) => {
                    let vxlan = seen.link(&wanted.vxlan_name()).unwrap().index;
                    seen.peers.entry(vxlan).or_default().push(*peer);
                }
                Mend::NoPeer(peer) => {
                    let vxlan = seen.link(&wanted.vxlan_name()).unwrap().index;
                    seen.peers
                        .entry(vxlan)
                        .or_default()
                        .retain(|one| one != peer);
                }
            }
        }
    }

    fn settle(seen: &mut Seen, wanted: &Bridge, before: &[String]) {
        for _ in 0..super::super::ROUNDS {
            let mends = mends(wanted, before, seen).unwrap();
            if mends.is_empty() {
                return;
            }
            follow(seen, wanted, &mends);
        }
        panic!("it does not settle: {seen:?}");
    }

    fn host() -> Seen {
        let link = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        };
        Seen {
            links: vec![link(1, "eth0"), link(2, "port0"), link(3, "port1")],
            ..Seen::default()
        }
    }

    #[test]
    fn a_bridge_is_made_and_mended_in_few_rounds() {
        let (mut seen, wanted) = (host(), wanted());
        settle(&mut seen, &wanted, &[]);
        let made = seen.clone();
        assert_eq!(mends(&wanted, &[], &made), Ok(Vec::new()));
        // It is removed by hand; its ports come back, and one that has another bridge does not.
        let bridge = seen.link(&wanted.name).unwrap().index;
        seen.links.retain(|link| link.index != bridge);
        seen.addresses.clear();
        for link in &mut seen.links {
            link.controller = None;
        }
        seen.links[2].controller = Some(99);
        let before = ["port0".to_owned(), "port1".to_owned(), "gone".to_owned()];
        settle(&mut seen, &wanted, &before);
        assert_eq!(seen.ports(&wanted.name, &wanted.vxlan_name()), ["port0"]);
        let vxlan = seen.link(&wanted.vxlan_name()).unwrap();
        assert_eq!(
            vxlan.controller,
            Some(seen.link(&wanted.name).unwrap().index)
        );
        // Other settings are followed.
        let mut other = wanted.clone();
        other.address = None;
        other.vxlan.as_mut().unwrap().peers = vec!["10.1.0.3".parse().unwrap()];
        settle(&mut seen, &other, &[]);
        other.vxlan.as_mut().unwrap().id = 8;
        settle(&mut seen, &other, &[]);
        assert_eq!(
            seen.link(&other.vxlan_name())
                .unwrap()
                .vxlan
                .as_ref()
                .unwrap()
                .id,
            8
        );
        other.vxlan = None;
        settle(&mut seen, &other, &[]);
        assert!(seen.link(&other.vxlan_name()).is_none());
    }

    #[test]
    fn what_is_somebody_elses_is_not_touched() {
        let (mut seen, wanted) = (host(), wanted());
        settle(&mut seen, &wanted, &[]);
        let at = seen
            .links
            .iter()
            .position(|link| link.name == wanted.name)
            .unwrap();
        seen.links[at].alias = "of another program".to_owned();
        let why = mends(&wanted, &[], &seen).unwrap_err();
        assert!(why.contains("is something else"), "{why}");
        seen.links[at].alias = String::new();
        assert_eq!(mends(&wanted, &[], &seen), Ok(vec![Mend::Mark]));
        seen.links[at].kind = VXLAN.to_owned();
        assert!(mends(&wanted, &[], &seen).is_err());
        let mut other = wanted;
        other.vxlan.as_mut().unwrap().underlay = Some("eth9".to_owned());
        seen.links[at].kind = BRIDGE.to_owned();
        let why = mends(&other, &[], &seen).unwrap_err();
        assert!(why.contains("no interface eth9"), "{why}");
    }

    #[test]
    fn names_are_short_and_their_own() {
        let (one, other) = (Bridge::named("main", 3), Bridge::named("other", 3));
        assert_ne!(one.name, other.name);
        assert_eq!((one.name.len(), one.vxlan_name().len()), (15, 15));
        assert_ne!(one.name, Bridge::named("main", 4).name);
        assert_ne!(one.mac, Bridge::named("main", 4).mac);
    }
}
