//! Settings of the kernel's IPv4 stack, in this network namespace.

use std::{fs, path::PathBuf};

use anyhow::Context as _;

use super::journal::{Change, Journal};

/// The settings, and the least values, with which no neighbour hears of an address of the loopback interface.
pub(super) const SILENCE: [(&str, u32); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// A setting below `/proc/sys/net/ipv4/conf`, by interface (or `all`) and name.
fn path(interface: &str, name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf")
        .join(interface)
        .join(name)
}

fn read(interface: &str, name: &str) -> anyhow::Result<u32> {
    let path = path(interface, name);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.trim().parse().with_context(|| {
        format!(
            "reading {}: `{}` is not a number",
            path.display(),
            text.trim()
        )
    })
}

fn write(interface: &str, name: &str, value: u32) -> anyhow::Result<()> {
    let path = path(interface, name);
    fs::write(&path, value.to_string())
        .with_context(|| format!("writing {value} to {} (this needs root)", path.display()))
}

fn set(
    journal: &mut Journal,
    interface: &str,
    name: &str,
    old: u32,
    new: u32,
) -> anyhow::Result<()> {
    journal.record(Change::Setting {
        interface: interface.to_owned(),
        name: name.to_owned(),
        old,
        new,
    })?;
    write(interface, name, new)
}

/// Raises `all/<name>` to `least`. Where the kernel takes the larger of `all` and the interface's own
/// value, that raises every interface. Returns whether it was lower.
pub(super) fn raise_all(journal: &mut Journal, name: &str, least: u32) -> anyhow::Result<bool> {
    let old = read("all", name)?;
    if old >= least {
        return Ok(false);
    }
    set(journal, "all", name, old, least)?;
    Ok(true)
}

/// Makes a strict reverse-path filter loose on an interface. The larger of `all` and the interface's own
/// value counts: 0 is off, 1 strict, 2 loose. Off stays off.
pub(super) fn loosen_reverse_path(journal: &mut Journal, interface: &str) -> anyhow::Result<()> {
    const NAME: &str = "rp_filter";
    const STRICT: u32 = 1;
    const LOOSE: u32 = 2;
    let own = read(interface, NAME)?;
    if own.max(read("all", NAME)?) != STRICT {
        return Ok(());
    }
    set(journal, interface, NAME, own, LOOSE)
}

/// Restores a setting, unless another program has changed it since or it is gone with its interface.
pub(super) fn restore(interface: &str, name: &str, old: u32, new: u32) -> anyhow::Result<()> {
    if !path(interface, name).exists() {
        return Ok(());
    }
    let now = read(interface, name)?;
    if now != new {
        if now != old {
            tracing::warn!(
                "{} was changed by another program from {new} to {now}: it is not restored to {old}",
                path(interface, name).display()
            );
        }
        return Ok(());
    }
    write(interface, name, old)
}
