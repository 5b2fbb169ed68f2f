//! Makes this host a real of some VIPs, and undoes it on exit.
//!
//! A real answers clients directly. For that it needs
//! - the VIP as an address of its own, on the loopback interface (/32, /128), where no neighbour sees it;
//! - silence about it: `arp_ignore` and `arp_announce`. The kernel takes the larger of `all` and the
//!   interface's own value, so `all` is raised. Neighbour discovery is silent by itself: IPv6 answers
//!   only for addresses of the interface that is asked;
//! - packets whose route back leads by another interface: a strict `rp_filter` is made loose on the interface;
//! - path MTUs: what a router cannot take is told to the VIP, and the balancer sends it on to the real. Where
//!   networks drop these messages, TCP finds out by itself (`tcp_mtu_probing`);
//! - in mode `ipip` the programs of `lb-ebpf`'s `decap`: one removes the outer header; the other lowers the
//!   segment size of SYN-ACKs from VIPs. (`advmss` on routes would affect all of the host's connections and
//!   race with DHCP, router advertisements and routing daemons, which own the routes; a firewall rule would
//!   need nftables and survive a kill. A program lives as long as this process.)
//!
//! Each change is written down before it is made (`journal`), so that exactly that is undone: on exit, or
//! after a kill by the next run with the same state.

mod address;
mod checksums;
mod journal;
mod program;
mod setup;
mod sysctl;
mod upkeep;

use std::{net::IpAddr, path::PathBuf};

pub use program::InterfaceCounters;
pub use setup::Real;

use crate::options::XdpMode;

/// What a host becomes a real of, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces that the balancer's packets come in by.
    pub interfaces: Vec<String>,
    /// Addresses of the VIPs.
    pub vips: Vec<IpAddr>,
    /// How the balancer's packets reach this host.
    pub mode: Mode,
    /// Where the XDP program runs.
    pub xdp_mode: XdpMode,
    /// Whether an interface that is missing at the start is an error; otherwise it is waited for.
    pub strict_interfaces: bool,
    /// Interfaces by which only answers leave.
    pub reply_interfaces: Vec<String>,
    /// Folder of the list of changes to undo; `None` is a folder of this network namespace below
    /// /run/lb-agent.
    pub state: Option<PathBuf>,
}

/// How packets reach a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In an outer IP header, which is removed.
    #[default]
    Ipip,
    /// In an outer IP and a UDP header to this port, which are removed; or in an outer IP header.
    Gue(u16),
    /// With this host's MAC address; nothing is removed.
    L2,
}

impl Mode {
    /// Whether there is an outer header to remove.
    #[must_use]
    pub const fn is_tunnel(self) -> bool {
        !matches!(self, Mode::L2)
    }
}
