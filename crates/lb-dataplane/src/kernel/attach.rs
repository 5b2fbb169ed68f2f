//! Attaching a program to an interface, and replacing one that is attached.

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
    bpf, loader,
    pins::{Pins, remove_file},
};
use crate::{
    error::{DataplaneError, system},
    netlink,
    options::XdpMode,
};

/// A program that is attached to an interface.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// Index of the interface.
    pub index: u32,
    /// Id of the program.
    pub program: u32,
    pub native: bool,
    /// Why it does not run in the driver; empty if it does.
    pub warning: String,
}

impl Attached {
    /// An interface that needs no program.
    pub fn nothing(index: u32) -> Attached {
        Attached {
            index,
            program: 0,
            native: false,
            warning: String::new(),
        }
    }
}

/// Attaches a loaded program, or replaces the one that a pinned link holds: a packet meets the old program or
/// the new one, and never passes without one.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    name: &str,
    index: u32,
    mode: XdpMode,
) -> Result<Attached, DataplaneError> {
    let pin = pins.link(name);
    let program = loader::program(ebpf)?;
    let id = program_id(program)?;
    // The link of an interface that is gone, or whose name another interface has now, holds nothing.
    if pin.exists() && bpf::pinned_link_info(&pin).is_ok_and(|link| link.interface == index) {
        replace(program, &pin, name)?;
        let native = netlink::interface::xdp_is_native(index)
            .map_err(system(format!("asking for the XDP mode of {name}")))?;
        let warning = if native {
            String::new()
        } else {
            generic_warning(name, "as an earlier agent attached it")
        };
        if !native && mode == XdpMode::Native {
            return Err(system(format!("keeping the program on {name}"))(
                "an earlier agent attached it in generic mode, and --xdp-mode native does not allow that; run `lb-agent \
                 detach` first, which ends forwarding",
            ));
        }
        return Ok(Attached {
            index,
            program: id,
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
            let reason = cause.unwrap_or_else(|| "as configured".to_owned());
            let link = attach_in(program, index, AyaMode::Skb).map_err(system(format!(
                "attaching to {name} in generic mode (another XDP program may be on it: `ip link show {name}` shows it, \
                 `ip link set {name} xdp off` removes it; that of another lb-agent ends with its `lb-agent detach`)"
            )))?;
            (link, false, generic_warning(name, &reason))
        }
    };
    if !warning.is_empty() {
        tracing::warn!("{warning}");
    }
    link.pin(&pin).map_err(system(format!(
        "pinning the attachment to {name} as {}",
        pin.display()
    )))?;
    Ok(Attached {
        index,
        program: id,
        native,
        warning,
    })
}

/// The kernel's id of a loaded program.
pub(crate) fn program_id(program: &Xdp) -> Result<u32, DataplaneError> {
    let info = program
        .info()
        .map_err(system("asking for the id of a loaded program"))?;
    Ok(info.id())
}

fn generic_warning(name: &str, reason: &str) -> String {
    format!(
        "{name} runs in generic XDP mode ({reason}): forwarding works but is several times slower; use a driver with \
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
    // Where the kernel makes no link, aya attaches by netlink; dropping that attachment ends it.
    FdLink::try_from(link).map_err(|error| {
        format!(
            "the kernel made no link that can be pinned (Linux 5.9 and newer do): {}",
            text(&error)
        )
    })
}

/// Replaces the program that a pinned link holds.
pub(crate) fn replace(program: &mut Xdp, pin: &Path, name: &str) -> Result<(), DataplaneError> {
    let operation = || format!("replacing the program on {name} ({})", pin.display());
    let link: FdLink = PinnedLink::from_pin(pin)
        .map_err(system(operation()))?
        .into();
    let link = XdpLink::try_from(link).map_err(system(operation()))?;
    let id = program.attach_to_link(link).map_err(system(operation()))?;
    // The pin keeps the link, so this process needs no handle of it.
    drop(program.take_link(id).map_err(system(operation()))?);
    Ok(())
}

/// Pins a program as `balancer`, replacing an earlier one.
pub(crate) fn pin_program(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), DataplaneError> {
    let new = pins.new_program();
    remove_file(&new)?;
    let operation = || format!("pinning the program as {}", pins.program().display());
    loader::program(ebpf)?
        .pin(&new)
        .map_err(system(operation()))?;
    std::fs::rename(&new, pins.program()).map_err(system(operation()))
}
