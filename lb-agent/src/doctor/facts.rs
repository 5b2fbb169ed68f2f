//! What checks judge, and how it is read.

use std::{collections::BTreeMap, io, net::IpAddr};

use lb_dataplane::{InterfaceStatus, host};
use lb_model::{
    check::Via,
    options::{Forward, NatSource},
    vip::VipKey,
};

use crate::{
    control::{RealState, StatsView, StatusView},
    supervisor::RealSnapshots,
};

/// Facts of a balancer.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The interfaces of the agent.
    pub interfaces: Vec<InterfaceFacts>,
    /// The VIPs.
    pub vips: Vec<VipFacts>,
    /// Frames by reason, on all interfaces.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Warnings of the agent.
    pub warnings: Vec<String>,
    /// The host.
    pub host: HostFacts,
}

/// Facts of an interface.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// Whether its packets meet the program.
    pub attached: bool,
    /// Whether the program runs in the driver.
    pub native: bool,
    /// What the agent says of it; empty if nothing is wrong.
    pub warning: String,
    /// What the kernel says of it; `None` if it is missing.
    pub link: Option<host::Link>,
    /// What it merges.
    pub offloads: host::Offloads,
}

/// Facts of a VIP.
#[derive(Clone, Debug)]
pub struct VipFacts {
    /// Its name.
    pub vip: VipKey,
    /// Whether its `source` is `client`.
    pub keeps_source: bool,
    /// How its reals are probed; `None` if they are not.
    pub check: Option<Via>,
    /// Its reals.
    pub reals: Vec<RealFacts>,
}

/// Facts of a real.
#[derive(Clone, Debug)]
pub struct RealFacts {
    /// Its address.
    pub address: IpAddr,
    /// How packets reach it.
    pub forward: Forward,
    /// Its state.
    pub state: RealState,
    /// Why its last probe failed; `None` if it did not.
    pub probe_failure: Option<String>,
}

/// Facts of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The kernel's release.
    pub kernel: String,
    /// Settings that were read, by their path below `/proc/sys`.
    pub settings: BTreeMap<String, i64>,
    /// Whether the clock is kept in time.
    pub clock_synchronized: Option<bool>,
}

/// Facts of a real's host.
#[derive(Clone, Debug, Default)]
pub struct RealHostFacts {
    /// The VIPs that it is to serve.
    pub vips: Vec<IpAddr>,
    /// Whether packets come in an outer header.
    pub tunnelled: bool,
    /// Addresses of the loopback interface.
    pub loopback: Vec<IpAddr>,
    /// The interfaces that packets come in by.
    pub interfaces: Vec<InterfaceFacts>,
    /// The host.
    pub host: HostFacts,
}

/// Settings that do not belong to an interface.
const SETTINGS: [&str; 8] = [
    "net/core/bpf_jit_enable",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/tcp_mtu_probing",
    "net/ipv4/tcp_syncookies",
];

impl HostFacts {
    /// Reads them, in the calling thread's network namespace.
    #[must_use]
    pub fn read<'a>(interfaces: impl Iterator<Item = &'a str>) -> HostFacts {
        let own = interfaces.map(|name| format!("net/ipv4/conf/{name}/rp_filter"));
        let paths = SETTINGS.iter().map(|path| (*path).to_owned()).chain(own);
        HostFacts {
            kernel: host::kernel_release(),
            settings: paths
                .filter_map(|path| Some((path.clone(), host::setting(&path)?)))
                .collect(),
            clock_synchronized: host::clock_is_synchronized(),
        }
    }

    /// A setting, by its path below `/proc/sys`.
    #[must_use]
    pub fn setting(&self, path: &str) -> Option<i64> {
        self.settings.get(path).copied()
    }

    /// The reverse-path filter of an interface: 0 off, 1 strict, 2 loose. The larger of its own value and that of all
    /// interfaces counts.
    #[must_use]
    pub fn reverse_path_filter(&self, interface: &str) -> i64 {
        let own = self.setting(&format!("net/ipv4/conf/{interface}/rp_filter"));
        let all = self.setting("net/ipv4/conf/all/rp_filter");
        own.unwrap_or(0).max(all.unwrap_or(0))
    }
}

impl InterfaceFacts {
    /// Reads what the kernel says of an interface.
    #[must_use]
    pub fn read(name: &str) -> InterfaceFacts {
        let link = host::link(name).ok().flatten();
        InterfaceFacts {
            name: name.to_owned(),
            attached: link.as_ref().is_some_and(|link| !link.programs.is_empty()),
            native: link.as_ref().is_some_and(|link| link.native),
            warning: String::new(),
            link,
            offloads: host::offloads(name).unwrap_or_default(),
        }
    }

    fn of(status: &InterfaceStatus) -> InterfaceFacts {
        InterfaceFacts {
            attached: status.attached,
            native: status.native,
            warning: status.warning.clone(),
            ..InterfaceFacts::read(&status.name)
        }
    }
}

impl Facts {
    /// Puts together what the agent's parts know and what the kernel says, in the calling thread's network namespace.
    #[must_use]
    pub fn read(status: &StatusView, stats: &StatsView, snapshots: &RealSnapshots) -> Facts {
        let interfaces: Vec<_> = (status.dataplane.interfaces.iter())
            .map(InterfaceFacts::of)
            .collect();
        let mut reasons = BTreeMap::new();
        for (reason, frames) in stats.stats.interfaces.iter().flat_map(|at| &at.reasons) {
            *reasons.entry(reason.name()).or_default() += frames;
        }
        let vips = stats.vips.iter().map(|view| {
            let vip = view.vip.address;
            let spec = &view.vip.spec;
            VipFacts {
                vip,
                keeps_source: spec.source == NatSource::Client,
                check: spec.check.as_ref().map(|check| {
                    // Probes of reals of mode `nat` are direct.
                    let mut modes =
                        (view.vip.reals.values()).map(|real| view.vip.mode_of(&real.spec));
                    if modes.len() > 0 && modes.all(|mode| mode == Forward::Nat) {
                        Via::Direct
                    } else {
                        check.via
                    }
                }),
                reals: (view.reals.iter())
                    .map(|real| RealFacts {
                        address: real.address.address,
                        forward: view
                            .vip
                            .reals
                            .get(&real.address)
                            .map_or(spec.forward, |real| view.vip.mode_of(&real.spec)),
                        state: real.state,
                        probe_failure: snapshots
                            .get(&(vip, real.address))
                            .and_then(|snapshot| snapshot.probe.as_ref())
                            .filter(|probe| probe.verdict == "unhealthy")
                            .map(|probe| probe.reason.clone()),
                    })
                    .collect(),
            }
        });
        Facts {
            vips: vips.collect(),
            reasons,
            warnings: status
                .dataplane
                .warnings
                .iter()
                .chain(&status.warnings)
                .cloned()
                .collect(),
            host: HostFacts::read(interfaces.iter().map(|at| at.name.as_str())),
            interfaces,
        }
    }
}

impl RealHostFacts {
    /// Reads them, in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel does not list the addresses of the loopback interface.
    pub fn read(vips: Vec<IpAddr>, interfaces: &[String], tunnelled: bool) -> io::Result<Self> {
        Ok(RealHostFacts {
            vips,
            tunnelled,
            loopback: host::addresses("lo")?,
            interfaces: (interfaces.iter())
                .map(|name| InterfaceFacts::read(name))
                .collect(),
            host: HostFacts::read(interfaces.iter().map(String::as_str)),
        })
    }
}
