//! The programs of one interface.

use std::{fmt, net::IpAddr};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray},
    programs::{SchedClassifier, TcAttachType, Xdp, tc},
    util::KernelVersion,
};
use lb_common::{
    decap::{Reason, names, segment::limit},
    headers::udp,
    ip::Family,
};

use super::{
    Mode,
    journal::{Change, Journal},
};
use crate::{kernel::Attached, objects, options::XdpMode};

/// The programs of one interface. They are detached when this is dropped.
pub(super) struct Programs {
    interface: String,
    ebpf: Ebpf,
    mode: Mode,
    /// What earlier programs of this interface counted, before it was recreated.
    counted: Vec<u64>,
}

impl Programs {
    /// Loads the programs for an interface, with these VIPs.
    pub(super) fn load(interface: &str, vips: &[IpAddr], mode: Mode) -> anyhow::Result<Programs> {
        let port = match mode {
            Mode::Gue(port) => port,
            Mode::Ipip | Mode::L2 => udp::GUE_PORT,
        };
        let mut ebpf = EbpfLoader::new()
            .override_global(names::GUE_PORT, &port, true)
            .load(objects::DECAP)
            .with_context(|| format!("loading the programs for {interface} (this needs root)"))?;
        let mut vips4: HashMap<_, [u8; 4], u32> = HashMap::try_from(
            ebpf.map_mut(names::VIPS4)
                .context("the program has no map VIPS4")?,
        )?;
        for address in vips {
            if let IpAddr::V4(address) = address {
                vips4
                    .insert(address.octets(), 1, 0)
                    .with_context(|| format!("adding {address} to the VIPs of {interface}"))?;
            }
        }
        let mut vips6: HashMap<_, [u8; 16], u32> = HashMap::try_from(
            ebpf.map_mut(names::VIPS6)
                .context("the program has no map VIPS6")?,
        )?;
        for address in vips {
            if let IpAddr::V6(address) = address {
                vips6
                    .insert(address.octets(), 1, 0)
                    .with_context(|| format!("adding {address} to the VIPs of {interface}"))?;
            }
        }
        Ok(Programs {
            interface: interface.to_owned(),
            ebpf,
            mode,
            counted: vec![0; Reason::ALL.len()],
        })
    }

    /// Goes on counting where other programs of this interface have stopped.
    pub(super) fn count_on(&mut self, before: &Programs) -> anyhow::Result<()> {
        let counters = before.counters()?;
        for (counted, (_, frames)) in self.counted.iter_mut().zip(counters.reasons) {
            *counted += frames;
        }
        Ok(())
    }

    /// Attaches the decapsulator to the interface with this index.
    pub(super) fn attach_decap(&mut self, index: u32, mode: XdpMode) -> anyhow::Result<Attached> {
        let interface = &self.interface;
        let program: &mut Xdp = self
            .ebpf
            .program_mut("decap")
            .context("this build of lb-agent has no program decap")?
            .try_into()?;
        program
            .load()
            .context("the kernel rejected the program decap")?;
        let attached = |program: &Xdp, native, warning| -> anyhow::Result<Attached> {
            Ok(Attached {
                index,
                program: program.info().context("asking for a program's id")?.id(),
                native,
                warning,
            })
        };
        let reason = match mode {
            XdpMode::Generic => "as configured".to_owned(),
            XdpMode::Auto | XdpMode::Native => {
                match program.attach_to_if_index(index, aya::programs::XdpMode::Driver) {
                    Ok(_) => return attached(program, true, String::new()),
                    Err(error) if mode == XdpMode::Native => {
                        return Err(error).with_context(|| {
                        format!(
                            "attaching decap to {interface} in native mode (its driver must support XDP and no other \
                             XDP program may be on it; --xdp-mode auto falls back to generic mode)"
                        )
                    });
                    }
                    Err(error) => format!("{:#}", anyhow::Error::from(error)),
                }
            }
        };
        program.attach_to_if_index(index, aya::programs::XdpMode::Skb).with_context(|| {
            format!(
                "attaching decap to {interface} (another XDP program may be on it: `ip link show {interface}` shows it, \
                 `ip link set {interface} xdp off` removes it)"
            )
        })?;
        let warning = format!(
            "decap runs in generic XDP mode on {interface} ({reason}): it works, but is several times slower"
        );
        attached(program, false, warning)
    }

    /// Attaches the program that lowers the segment size of what leaves by this interface.
    pub(super) fn attach_clamp(&mut self, journal: &mut Journal) -> anyhow::Result<()> {
        let interface = self.interface.clone();
        let operation = || format!("attaching clamp to {interface}");
        let links = KernelVersion::new(6, 6, 0);
        let outlives_process =
            KernelVersion::current().context("asking for the kernel's version")? < links;
        if outlives_process {
            // Without a link the filter stays when the process is killed.
            journal.record(Change::Filter {
                interface: interface.clone(),
            })?;
            // Fails if the queueing discipline is there already; if it cannot be made, attaching fails.
            let _ = tc::qdisc_add_clsact(&interface);
        }
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut("clamp")
            .context("this build of lb-agent has no program clamp")?
            .try_into()?;
        program
            .load()
            .context("the kernel rejected the program clamp")?;
        program
            .attach(&interface, TcAttachType::Egress)
            .with_context(operation)?;
        Ok(())
    }

    /// Sets the segment sizes for this MTU.
    pub(super) fn set_mtu(&mut self, mtu: u32) -> anyhow::Result<()> {
        let mut segments: Array<_, u32> = Array::try_from(
            self.ebpf
                .map_mut(names::SEGMENTS)
                .context("the program has no map SEGMENTS")?,
        )?;
        // A UDP header stands in front of the packet as well.
        let mtu = match self.mode {
            Mode::Gue(_) => mtu.saturating_sub(udp::LENGTH as u32),
            Mode::Ipip | Mode::L2 => mtu,
        };
        for family in [Family::V4, Family::V6] {
            segments
                .set(family as u32, limit(family, mtu), 0)
                .with_context(|| format!("setting the segment size on {}", self.interface))?;
        }
        Ok(())
    }

    /// The decapsulator's counters.
    pub(super) fn counters(&self) -> anyhow::Result<InterfaceCounters> {
        let reasons: PerCpuArray<_, u64> = PerCpuArray::try_from(
            self.ebpf
                .map(names::REASONS)
                .context("the program has no map REASONS")?,
        )?;
        let mut counters = InterfaceCounters {
            interface: self.interface.clone(),
            reasons: Vec::new(),
        };
        for &reason in Reason::ALL {
            let frames = reasons
                .get(&(reason as u32), 0)
                .with_context(|| format!("reading the counters of {}", self.interface))?;
            let before = self.counted.get(counters.reasons.len()).copied();
            let frames = frames.iter().sum::<u64>() + before.unwrap_or_default();
            counters.reasons.push((reason, frames));
        }
        Ok(counters)
    }
}

/// Removes a filter that an earlier process left behind.
pub(super) fn remove_filter(interface: &str) -> anyhow::Result<()> {
    if nix::net::if_::if_nametoindex(interface).is_err() {
        return Ok(());
    }
    match tc::qdisc_detach_program(interface, TcAttachType::Egress, "clamp") {
        Ok(()) => Ok(()),
        Err(tc::TcError::IoError(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!(
            "removing the filter clamp from {interface}: {error}; `tc filter del dev {interface} egress` removes it"
        ),
    }
}

/// Frames that came in by an interface, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// The interface.
    pub interface: String,
    /// Every reason, by number; they add up to the frames received.
    pub reasons: Vec<(Reason, u64)>,
}

impl InterfaceCounters {
    /// Frames with this reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons
            .iter()
            .filter(|(other, _)| *other == reason)
            .map(|(_, frames)| frames)
            .sum()
    }

    /// All frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.reasons.iter().map(|(_, frames)| frames).sum()
    }
}

impl fmt::Display for InterfaceCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames={}", self.interface, self.frames())?;
        for (reason, frames) in self.reasons.iter().filter(|(_, frames)| *frames > 0) {
            write!(f, " {}={frames}", reason.name())?;
        }
        Ok(())
    }
}
