//! How many probes a host can make at a time, and how many a configuration may ask of it. Pure, except for
//! [`Capacity::of_this_host`].

use std::{collections::HashMap, io, net::SocketAddr};

use lb_model::{
    check::{Check, CheckOverride, Via},
    intent::Vip,
    options::Forward,
    vip::VipKey,
};
use nix::sys::resource::{Resource, getrlimit};

use super::runner::{MAX_PROBES, slots_within};

const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What a host has for probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Files that the process may have open.
    pub files: u64,
    /// Local ports for connections to one address and port, and for UDP sockets.
    pub ports: u64,
}

impl Capacity {
    /// What this host gives this process, once its limit of files is raised.
    ///
    /// # Errors
    /// A limit cannot be read.
    pub fn of_this_host() -> io::Result<Self> {
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let range = std::fs::read_to_string(PORTS)?;
        let ports = ports(&range)
            .ok_or_else(|| io::Error::other(format!("{PORTS} holds no range: {range:?}")))?;
        Ok(Capacity { files, ports })
    }

    /// What a demand exceeds, in words for operators.
    #[must_use]
    pub fn shortages(&self, demand: &Demand) -> Vec<String> {
        let Capacity { files, ports } = *self;
        let slots = slots_within(files) as u64;
        let mut shortages = Vec::new();
        if demand.probes > slots {
            let advice = if slots < MAX_PROBES as u64 {
                format!(
                    "half of the {files} files that the agent may open; raise the limit of files, LimitNOFILE in its \
                     unit, to {} or more",
                    (demand.probes * 2).min(MAX_PROBES as u64 * 2)
                )
            } else {
                "the most that an agent makes; lengthen the intervals, or shorten the time-outs"
                    .to_owned()
            };
            shortages.push(format!(
                "{} probes of reals are configured, and {slots} can run at a time ({advice}): if many reals are silent, \
                 probes of the others are late",
                demand.probes
            ));
        }
        let least = [
            (demand.tunnelled(), "through the tunnel to one address"),
            (demand.datagrams, "by UDP"),
        ];
        for (probes, kind) in least {
            let probes = probes.min(slots);
            if probes > ports {
                shortages.push(format!(
                    "{probes} probes {kind} can run at a time, and this host has {ports} ports for them; widen \
                     net.ipv4.ip_local_port_range"
                ));
            }
        }
        shortages
    }
}

fn ports(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

/// Probes that may run at the same time: one of each real, if all are silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Probes of any kind.
    pub probes: u64,
    /// Those that send datagrams, each from a port of its own.
    pub datagrams: u64,
    /// Connections through the tunnel, to each address and port: the reals of a VIP share its own.
    tunnelled: HashMap<SocketAddr, u64>,
}

impl Demand {
    /// Adds the probes of a VIP's reals.
    pub fn add(&mut self, vip: &Vip) {
        let Some(check) = &vip.spec.check else { return };
        for real in vip.reals.values() {
            let mode = vip.mode_of(&real.spec);
            self.add_real(&vip.address, check, &real.spec.check, mode);
        }
    }

    fn add_real(&mut self, vip: &VipKey, check: &Check, change: &CheckOverride, mode: Forward) {
        if change.disabled {
            return;
        }
        self.probes += 1;
        if check.probe.kind == "udp" {
            self.datagrams += 1;
        } else if change.via(check, mode) == Via::Tunnel {
            let port = change.port.or(check.port).unwrap_or(vip.port);
            *self
                .tunnelled
                .entry(SocketAddr::new(vip.address, port))
                .or_default() += 1;
        }
    }

    fn tunnelled(&self) -> u64 {
        self.tunnelled.values().copied().max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::intent::{Owner, Real, VipSpec};

    fn vip(address: &str, check: &str, reals: u8) -> Vip {
        let real = |last| {
            let address = std::net::IpAddr::from([10, 1, 0, last]);
            (address.into(), Real::default())
        };
        let spec = VipSpec {
            check: Some(toml::from_str(check).unwrap()),
            ..VipSpec::default()
        };
        Vip {
            reals: (0..reals).map(real).collect(),
            ..Vip::new(address.parse().unwrap(), Owner::Api, spec)
        }
    }

    fn demand(vips: &[Vip]) -> Demand {
        let mut demand = Demand::default();
        vips.iter().for_each(|vip| demand.add(vip));
        demand
    }

    #[test]
    fn what_a_host_lacks_is_said() {
        let tunnel = "kind = 'tcp'\nvia = 'tunnel'";
        let demanded = demand(&[
            vip("10.0.0.1:80/tcp", tunnel, 200),
            vip("10.0.0.1:81/tcp", tunnel, 100),
            vip("10.0.0.1:53/udp", "kind = 'udp'\npayload = 'x'", 150),
            vip("10.0.0.2:80/tcp", "kind = 'tcp'", 50),
        ]);
        assert_eq!((demanded.probes, demanded.datagrams), (500, 150));
        assert_eq!(demanded.tunnelled(), 200);
        let mut translated = vip("10.0.0.1:80/tcp", tunnel, 200);
        for real in translated.reals.values_mut().take(150) {
            real.spec.mode = Some(Forward::Nat);
        }
        let direct = demand(&[translated]);
        assert_eq!((direct.probes, direct.tunnelled()), (200, 50));
        let shortages = |files, ports| Capacity { files, ports }.shortages(&demanded);
        assert_eq!(shortages(1_024, 28_232), Vec::<String>::new());
        let few = shortages(512, 28_232);
        assert_eq!(few.len(), 1);
        assert!(few[0].contains("500 probes of reals are configured, and 256 can run"));
        assert!(few[0].contains("LimitNOFILE in its unit, to 1000 or more"));
        let few = shortages(1_024, 180);
        assert_eq!(few.len(), 1);
        assert!(few[0].contains("200 probes through the tunnel to one address"));
        assert_eq!(shortages(1_024, 100).len(), 2);
    }

    #[test]
    fn a_real_that_is_not_probed_needs_nothing() {
        let mut vip = vip("10.0.0.1:80/tcp", "kind = 'tcp'", 2);
        vip.reals.values_mut().next().unwrap().spec.check.disabled = true;
        assert_eq!(demand(&[vip.clone()]).probes, 1);
        vip.spec.check = None;
        assert_eq!(demand(&[vip]), Demand::default());
    }

    #[test]
    fn this_host_has_ports_and_files() {
        let capacity = Capacity::of_this_host().unwrap();
        assert!(capacity.files > 0 && capacity.ports > 0, "{capacity:?}");
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports("none"), None);
    }
}
