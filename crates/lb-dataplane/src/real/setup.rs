//! Setting up a real, and undoing that.

use std::net::IpAddr;

use anyhow::Context as _;

use super::{
    InterfaceCounters, Mode, Options,
    address::Connection,
    journal::{self, Change, Journal},
    program::{self, Programs},
    sysctl::{self, Scope},
};

/// A host that is set up as a real. [`Real::finish`] undoes it; dropping it leaves addresses and settings
/// for the next [`Real::set_up`] to undo, as a killed process does.
pub struct Real {
    journal: Journal,
    netlink: Connection,
    /// Programs of the interfaces that packets come in by.
    programs: Vec<Programs>,
    /// Programs of the interfaces by which only answers leave.
    reply_programs: Vec<Programs>,
    warnings: Vec<String>,
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
        let mut real = Real {
            journal,
            netlink,
            programs: Vec::new(),
            reply_programs: Vec::new(),
            warnings: Vec::new(),
        };
        if left > 0 {
            real.warnings.push(format!(
                "an earlier `lb-agent real` ended without undoing its changes; {left} were undone now"
            ));
        }
        match real.make(options).await {
            Ok(()) => Ok(real),
            Err(error) => {
                if let Err(second) = real.finish().await {
                    tracing::error!("{second:#}");
                }
                Err(error)
            }
        }
    }

    async fn make(&mut self, options: &Options) -> anyhow::Result<()> {
        let mut vips = options.vips.clone();
        vips.sort_unstable();
        vips.dedup();
        for interface in options.interfaces.iter().chain(&options.reply_interfaces) {
            self.netlink.mtu(interface).await?;
        }
        // Silence first: no neighbour may hear of the address.
        if vips.iter().any(IpAddr::is_ipv4) {
            sysctl::raise_all(&mut self.journal, "arp_ignore", 1)?;
            sysctl::raise_all(&mut self.journal, "arp_announce", 2)?;
            for interface in &options.interfaces {
                sysctl::loosen_reverse_path(&mut self.journal, interface)?;
            }
        }
        self.warnings.extend(sysctl::probe_mtus(&mut self.journal)?);
        self.netlink.loopback_up(&mut self.journal).await?;
        for vip in &vips {
            self.netlink.add(&mut self.journal, *vip).await?;
        }
        if options.mode == Mode::L2 {
            return Ok(());
        }
        // The MTU where packets come in limits the segment size, wherever the answers leave.
        let mut smallest = u32::MAX;
        for interface in &options.interfaces {
            smallest = smallest.min(self.netlink.mtu(interface).await?);
        }
        for interface in distinct(&options.interfaces) {
            let mut programs = Programs::load(interface, &vips)?;
            programs.set_mtu(smallest)?;
            programs.attach_clamp(&mut self.journal)?;
            self.warnings
                .extend(programs.attach_decap(options.xdp_mode)?);
            self.programs.push(programs);
        }
        for interface in distinct(&options.reply_interfaces) {
            if !options.interfaces.contains(interface) {
                let mut programs = Programs::load(interface, &vips)?;
                programs.set_mtu(smallest)?;
                programs.attach_clamp(&mut self.journal)?;
                self.reply_programs.push(programs);
            }
        }
        Ok(())
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
        self.programs.iter().map(Programs::counters).collect()
    }

    /// Adapts the announced segment size to the interfaces' MTUs.
    ///
    /// # Errors
    /// If an interface is gone.
    pub async fn follow_mtu(&mut self) -> anyhow::Result<()> {
        let mut smallest = u32::MAX;
        for programs in &self.programs {
            smallest = smallest.min(self.netlink.mtu(programs.interface()).await?);
        }
        for programs in self.programs.iter_mut().chain(&mut self.reply_programs) {
            programs.set_mtu(smallest)?;
        }
        Ok(())
    }

    /// Undoes everything, in reverse order.
    ///
    /// # Errors
    /// Says what could not be undone; the next run retries.
    pub async fn finish(self) -> anyhow::Result<()> {
        let Real {
            mut journal,
            netlink,
            programs,
            reply_programs,
            ..
        } = self;
        drop((programs, reply_programs));
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
