//! Setting up a real, and undoing that.

use std::net::IpAddr;

use anyhow::{Context as _, bail};

use super::{
    InterfaceCounters, Mode, Options,
    address::Connection,
    checksums::ChecksumErrors,
    journal::{self, Change, Journal},
    program::{self, Programs},
    sysctl::{self, Scope},
};
use crate::{
    kernel::{Attached, Interface, Presence},
    netlink::socket::Requests,
};

/// A host that is set up as a real. [`Real::finish`] undoes it; dropping it leaves addresses and settings
/// for the next [`Real::set_up`] to undo, as a killed process does.
pub struct Real {
    pub(super) journal: Journal,
    pub(super) netlink: Connection,
    pub(super) options: Options,
    /// Addresses of the VIPs, each once.
    pub(super) vips: Vec<IpAddr>,
    /// The interfaces, first those that packets come in by.
    pub(super) ports: Vec<Port>,
    pub(super) checksums: ChecksumErrors,
    /// Asks about interfaces.
    pub(super) requests: Requests,
    warnings: Vec<String>,
}

/// An interface of a real.
pub(super) struct Port {
    /// Whether the balancer's packets come in by it; otherwise only answers leave by it.
    pub incoming: bool,
    /// What is attached to it.
    pub interface: Interface,
    /// Its programs; `None` as long as it is missing, and in mode `l2`.
    pub programs: Option<Programs>,
}

impl Real {
    /// Undoes what a killed process left, then makes this host a real.
    ///
    /// # Errors
    /// Says what failed; the changes that were made before are undone.
    pub async fn set_up(options: &Options) -> anyhow::Result<Real> {
        let folder = match &options.state {
            Some(folder) => folder.clone(),
            None => journal::default_folder()?,
        };
        let mut journal = Journal::open(&folder)?;
        let netlink = Connection::open()?;
        let left = journal.changes().len();
        undo(&mut journal, &netlink)
            .await
            .context("undoing the changes that an earlier `lb-agent real` left behind")?;
        let mut vips = options.vips.clone();
        vips.sort_unstable();
        vips.dedup();
        let port = |name: &String, incoming| Port {
            incoming,
            interface: Interface::new(name.clone(), 0),
            programs: None,
        };
        let replies = distinct(&options.reply_interfaces)
            .filter(|interface| !options.interfaces.contains(interface));
        let mut real = Real {
            journal,
            netlink,
            vips,
            ports: distinct(&options.interfaces)
                .map(|name| port(name, true))
                .chain(replies.map(|name| port(name, false)))
                .collect(),
            options: options.clone(),
            checksums: ChecksumErrors::default(),
            requests: Requests::new().context("opening a netlink socket")?,
            warnings: Vec::new(),
        };
        if left > 0 {
            real.warnings.push(format!(
                "an earlier `lb-agent real` ended without undoing its changes; {left} were undone now"
            ));
        }
        match real.make().await {
            Ok(()) => Ok(real),
            Err(error) => {
                if let Err(second) = real.finish().await {
                    tracing::error!("{second:#}");
                }
                Err(error)
            }
        }
    }

    async fn make(&mut self) -> anyhow::Result<()> {
        for port in &self.ports {
            let presence = port.interface.presence(&mut self.requests)?;
            if matches!(presence, Presence::Gone) {
                let name = &port.interface.name;
                if self.options.strict_interfaces {
                    bail!(
                        "there is no interface {name} (`ip link` lists the interfaces); without --strict-interfaces it \
                           is waited for"
                    );
                }
                self.warnings
                    .push(format!("interface {name} is missing: it is waited for"));
            }
        }
        self.silence()?;
        self.warnings.extend(sysctl::probe_mtus(&mut self.journal)?);
        self.netlink.loopback_up(&mut self.journal).await?;
        for vip in &self.vips {
            self.netlink.add(&mut self.journal, *vip).await?;
        }
        for at in 0..self.ports.len() {
            if let Presence::At(link) = self.ports[at].interface.presence(&mut self.requests)? {
                self.attach(at, link.index)?;
                let port = &self.ports[at];
                self.warnings.extend(port.interface.mode_warning());
            }
        }
        Ok(())
    }

    /// Silence first: no neighbour may hear of the address.
    fn silence(&mut self) -> anyhow::Result<()> {
        if self.vips.iter().any(IpAddr::is_ipv4) {
            for (name, least) in sysctl::SILENCE {
                sysctl::raise_all(&mut self.journal, name, least)?;
            }
        }
        Ok(())
    }

    /// Makes an interface, which is there with this index, one of a real.
    pub(super) fn attach(&mut self, at: usize, index: u32) -> anyhow::Result<()> {
        let smallest = self.smallest_mtu()?;
        let Real {
            options,
            ports,
            vips,
            journal,
            ..
        } = self;
        let port = &mut ports[at];
        let name = port.interface.name.clone();
        if port.incoming && vips.iter().any(IpAddr::is_ipv4) {
            sysctl::loosen_reverse_path(journal, &name)?;
        }
        if options.mode == Mode::L2 {
            port.interface.attached(Attached::nothing(index));
            return Ok(());
        }
        let mut programs = Programs::load(&name, vips, options.mode)?;
        programs.set_mtu(smallest)?;
        programs.attach_clamp(journal)?;
        let attached = if port.incoming {
            programs.attach_decap(index, options.xdp_mode)?
        } else {
            Attached::nothing(index)
        };
        if let Some(before) = &port.programs {
            programs.count_on(before)?;
        }
        port.interface.attached(attached);
        port.programs = Some(programs);
        Ok(())
    }

    /// The MTU where packets come in limits the segment size, wherever the answers leave.
    pub(super) fn smallest_mtu(&mut self) -> anyhow::Result<u32> {
        let mut smallest = u32::MAX;
        for port in self.ports.iter().filter(|port| port.incoming) {
            if let Presence::At(link) = port.interface.presence(&mut self.requests)? {
                smallest = smallest.min(link.mtu);
            }
        }
        Ok(smallest)
    }

    /// What an operator should know.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The decapsulator's counters, per interface; the list is empty in mode `l2`.
    ///
    /// # Errors
    /// If the kernel does not return them.
    pub fn counters(&self) -> anyhow::Result<Vec<InterfaceCounters>> {
        let incoming = self.ports.iter().filter(|port| port.incoming);
        incoming
            .filter_map(|port| port.programs.as_ref())
            .map(Programs::counters)
            .collect()
    }

    /// Returns when the connection to the kernel, without which nothing can be looked after or undone, has ended.
    pub async fn netlink_ended(&mut self) {
        self.netlink.ended().await;
    }

    /// Undoes everything, in reverse order.
    ///
    /// # Errors
    /// Says what could not be undone; the next run retries.
    pub async fn finish(self) -> anyhow::Result<()> {
        let Real {
            mut journal,
            netlink,
            ports,
            ..
        } = self;
        drop(ports);
        undo(&mut journal, &netlink).await
    }
}

/// Each name once, in order.
fn distinct(names: &[String]) -> impl Iterator<Item = &String> {
    names
        .iter()
        .enumerate()
        .filter(|(at, name)| !names[..*at].contains(name))
        .map(|(_, name)| name)
}

/// Undoes the changes of the journal, the latest first. A change that cannot be undone stays listed and does
/// not keep the others from being undone.
async fn undo(journal: &mut Journal, netlink: &Connection) -> anyhow::Result<()> {
    let mut failure = None;
    for at in (0..journal.changes().len()).rev() {
        let undone = match &journal.changes()[at] {
            Change::Setting {
                interface,
                name,
                old,
                new,
            } => sysctl::restore(Scope::Interface(interface), name, *old, *new),
            Change::HostSetting { name, old, new } => {
                sysctl::restore(Scope::Host, name, *old, *new)
            }
            Change::Address { address } => netlink.remove(*address).await,
            Change::LoopbackUp => netlink.loopback_down().await,
            Change::Filter { interface } => program::remove_filter(interface),
        };
        match undone {
            Ok(()) => journal.remove(at)?,
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    tracing::error!("{earlier:#}");
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}
