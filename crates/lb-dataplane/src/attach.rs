//! Attaching the program to interfaces, and putting a new one in an old one's place.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        Xdp,
        links::{FdLink, PinnedLink},
        xdp::{XdpLink, XdpMode as AyaMode},
    },
};

use super::{
    DataplaneError, InterfaceStatus, bpf,
    error::system,
    loader,
    options::XdpMode,
    pins::{Pins, remove_file},
};
use crate::netlink::interface;

/// An interface the program is attached to.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub name: String,
    pub index: u32,
    /// Its place in the counters.
    pub slot: u32,
    pub native: bool,
    pub warning: String,
}

impl Attachment {
    /// Its state; the kernel is asked whether the pinned link still holds the program.
    pub fn status(&self, pins: &Pins) -> InterfaceStatus {
        let link = bpf::pinned_link_info(&pins.link(&self.name));
        InterfaceStatus {
            name: self.name.clone(),
            index: self.index,
            attached: link.is_ok_and(|link| link.interface == self.index),
            native: self.native,
            warning: self.warning.clone(),
        }
    }
}

/// The index of an interface of this network namespace.
///
/// # Errors
/// [`DataplaneError::System`] if there is none of this name.
pub(crate) fn interface_index(name: &str) -> Result<u32, DataplaneError> {
    nix::net::if_::if_nametoindex(name).map_err(system(format!(
        "looking for the interface {name} (`ip link` lists those there are)"
    )))
}

/// Attaches a loaded program, or puts it in the place of the one that a pinned link holds: a packet meets
/// the old program or the new one, never none.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    name: &str,
    index: u32,
    slot: u32,
    mode: XdpMode,
) -> Result<Attachment, DataplaneError> {
    let pin = pins.link(name);
    let program = loader::program(ebpf)?;
    // A link to an interface that is gone (or that another one has taken the name of) holds nothing.
    if pin.exists() && bpf::pinned_link_info(&pin).is_ok_and(|link| link.interface == index) {
        replace(program, &pin, name)?;
        let native = interface::xdp_is_native(index)?;
        let warning = if native {
            String::new()
        } else {
            generic_warning(name, "as an earlier agent attached it")
        };
        if !native && mode == XdpMode::Native {
            return Err(system(format!("keeping the program on {name}"))(
                "it runs in generic mode and --xdp-mode native was asked for; `lb-agent detach` first",
            ));
        }
        return Ok(Attachment {
            name: name.to_owned(),
            index,
            slot,
            native,
            warning,
        });
    }
    remove_file(&pin)?;
    let native = match mode {
        XdpMode::Generic => Err(None),
        XdpMode::Auto | XdpMode::Native => attach_in(program, index, AyaMode::Driver).map_err(Some),
    };
    let (link, native, warning) = match native {
        Ok(link) => (link, true, String::new()),
        Err(Some(cause)) if mode == XdpMode::Native => {
            return Err(system(format!(
                "attaching to {name} in native mode (its driver must support XDP, no other XDP program may be on \
                 it, and its MTU must leave room; --xdp-mode auto falls back to generic mode)"
            ))(cause));
        }
        Err(cause) => {
            let why = cause.map_or_else(|| "as asked for".to_owned(), |cause| cause.to_string());
            let link = attach_in(program, index, AyaMode::Skb).map_err(system(format!(
                "attaching to {name} in generic mode (is another XDP program on it? `ip link show {name}` tells, \
                 `ip link set {name} xdp off` removes it; another lb-agent ends with its own `lb-agent detach`)"
            )))?;
            (link, false, generic_warning(name, &why))
        }
    };
    if !warning.is_empty() {
        tracing::warn!("{warning}");
    }
    link.pin(&pin).map_err(system(format!(
        "pinning the attachment to {name} as {}",
        pin.display()
    )))?;
    Ok(Attachment {
        name: name.to_owned(),
        index,
        slot,
        native,
        warning,
    })
}

fn generic_warning(name: &str, why: &str) -> String {
    format!(
        "{name} runs in generic XDP mode ({why}): forwarding works but is several times slower; use a driver with \
         native XDP"
    )
}

fn attach_in(program: &mut Xdp, index: u32, mode: AyaMode) -> Result<FdLink, String> {
    let text = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    };
    let id = program
        .attach_to_if_index(index, mode)
        .map_err(|error| text(&error))?;
    let link = program.take_link(id).map_err(|error| text(&error))?;
    // Where the kernel makes no link, aya attaches by netlink, which ends with this process: dropped here.
    FdLink::try_from(link).map_err(|error| {
        format!(
            "the kernel gave no link that could be pinned (Linux 5.9 does): {}",
            text(&error)
        )
    })
}

/// Puts the program in the place of the one a pinned link holds.
pub(crate) fn replace(program: &mut Xdp, pin: &Path, name: &str) -> Result<(), DataplaneError> {
    let operation = || format!("replacing the program on {name} ({})", pin.display());
    let link: FdLink = PinnedLink::from_pin(pin)
        .map_err(system(operation()))?
        .into();
    let link = XdpLink::try_from(link).map_err(system(operation()))?;
    let id = program.attach_to_link(link).map_err(system(operation()))?;
    // The pin keeps the link; our own handle of it is not needed.
    drop(program.take_link(id).map_err(system(operation()))?);
    Ok(())
}

/// Pins a program as `balancer`, in the place of the one pinned before.
pub(crate) fn pin_program(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), DataplaneError> {
    let waiting = pins.program_in_waiting();
    remove_file(&waiting)?;
    let operation = || format!("pinning the program as {}", pins.program().display());
    loader::program(ebpf)?
        .pin(&waiting)
        .map_err(system(operation()))?;
    std::fs::rename(&waiting, pins.program()).map_err(system(operation()))
}
