//! Settings of the kernel's IPv4 stack, in this network namespace.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use super::journal::{Change, Journal};

/// The settings, and the least values, with which no neighbour hears of an address of the loopback interface.
pub(super) const SILENCE: [(&str, u32); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// Where a setting is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Below `/proc/sys/net/ipv4`.
    Host,
    /// Below `/proc/sys/net/ipv4/conf`: `all` or an interface.
    Interface(&'a str),
}

impl Scope<'_> {
    fn path(self, name: &str) -> PathBuf {
        let ipv4 = PathBuf::from("/proc/sys/net/ipv4");
        match self {
            Scope::Host => ipv4.join(name),
            Scope::Interface(interface) => ipv4.join("conf").join(interface).join(name),
        }
    }

    fn change(self, name: &str, old: u32, new: u32) -> Change {
        let name = name.to_owned();
        match self {
            Scope::Host => Change::HostSetting { name, old, new },
            Scope::Interface(interface) => Change::Setting {
                interface: interface.to_owned(),
                name,
                old,
                new,
            },
        }
    }

    fn read(self, name: &str) -> anyhow::Result<u32> {
        let path = self.path(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| {
            format!(
                "reading {}: `{}` is not a number",
                path.display(),
                text.trim()
            )
        })
    }

    fn write(self, name: &str, value: u32) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("writing {value} to {} (this needs root)", path.display()))
    }

    fn set(self, journal: &mut Journal, name: &str, old: u32, new: u32) -> anyhow::Result<()> {
        journal.record(self.change(name, old, new))?;
        self.write(name, new)
    }
}

const ALL: Scope<'static> = Scope::Interface("all");

/// Raises `all/<name>` to `least`. Where the kernel takes the larger of `all` and the interface's own
/// value, that raises every interface. Returns whether it was lower.
pub(super) fn raise_all(journal: &mut Journal, name: &str, least: u32) -> anyhow::Result<bool> {
    let old = ALL.read(name)?;
    if old >= least {
        return Ok(false);
    }
    ALL.set(journal, name, old, least)?;
    Ok(true)
}

/// Makes a strict reverse-path filter loose on an interface. The larger of `all` and the interface's own
/// value counts: 0 is off, 1 strict, 2 loose. Off stays off.
pub(super) fn loosen_reverse_path(journal: &mut Journal, interface: &str) -> anyhow::Result<()> {
    const NAME: &str = "rp_filter";
    const STRICT: u32 = 1;
    const LOOSE: u32 = 2;
    let scope = Scope::Interface(interface);
    let own = scope.read(NAME)?;
    if own.max(ALL.read(NAME)?) != STRICT {
        return Ok(());
    }
    scope.set(journal, NAME, own, LOOSE)
}

/// Lets TCP (of IPv4 and IPv6) find out by smaller segments that packets of the path's supposed MTU do not arrive:
/// where a network drops the ICMP errors that say so. 0 is off, 1 on after several losses, 2 always. Returns why
/// it stays off, if it does: a real works without it.
pub(super) fn probe_mtus(journal: &mut Journal) -> anyhow::Result<Option<String>> {
    const NAME: &str = "tcp_mtu_probing";
    const ON_LOSS: u32 = 1;
    let old = match Scope::Host.read(NAME) {
        Ok(old) => old,
        Err(error) => return Ok(Some(stays_off(&error))),
    };
    if old >= ON_LOSS {
        return Ok(None);
    }
    journal.record(Scope::Host.change(NAME, old, ON_LOSS))?;
    match Scope::Host.write(NAME, ON_LOSS) {
        Ok(()) => Ok(None),
        Err(error) => {
            journal.remove(journal.changes().len() - 1)?;
            Ok(Some(stays_off(&error)))
        }
    }
}

fn stays_off(error: &anyhow::Error) -> String {
    format!(
        "tcp_mtu_probing stays off ({error:#}): connections of clients whose network drops ICMP errors may stall; set \
         net.ipv4.tcp_mtu_probing=1 on this host"
    )
}

/// Restores a setting, unless another program has changed it since or it is gone with its interface.
pub(super) fn restore(scope: Scope<'_>, name: &str, old: u32, new: u32) -> anyhow::Result<()> {
    let path = scope.path(name);
    if !path.exists() {
        return Ok(());
    }
    let now = scope.read(name)?;
    if now != new {
        if now != old {
            tracing::warn!(
                "{} was changed by another program from {new} to {now}: it is not restored to {old}",
                path.display()
            );
        }
        return Ok(());
    }
    scope.write(name, old)
}
