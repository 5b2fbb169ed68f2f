//! Facts of this host and its network namespace, for an operator: what its interfaces do to frames, settings of the
//! kernel, addresses, the clock.

use std::{fs, io, net::IpAddr, os::fd::AsRawFd as _};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netlink::{links, socket::Requests};

pub use crate::netlink::links::Link;

/// What an interface does to frames before a program sees them; `None` where the driver does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Merges received segments in hardware, which cannot be undone.
    pub lro: Option<bool>,
    /// Merges received segments in the stack.
    pub gro: Option<bool>,
}

/// The link with this name in the calling thread's network namespace; `None` if there is none.
///
/// # Errors
/// If the kernel does not answer.
pub fn link(name: &str) -> io::Result<Option<Link>> {
    links::by_name(&mut Requests::new()?, name)
}

/// `SIOCETHTOOL` and its commands (include/uapi/linux/sockios.h, ethtool.h).
const SIOCETHTOOL: u32 = 0x8946;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
/// The flag of LRO in the answer to [`ETHTOOL_GFLAGS`].
const ETH_FLAG_LRO: u32 = 1 << 15;

/// What an interface merges.
///
/// # Errors
/// If the kernel grants no socket.
pub fn offloads(interface: &str) -> io::Result<Offloads> {
    let flags = ethtool_value(interface, ETHTOOL_GFLAGS)?;
    Ok(Offloads {
        lro: flags.map(|flags| flags & ETH_FLAG_LRO != 0),
        gro: ethtool_value(interface, ETHTOOL_GGRO)?.map(|on| on != 0),
    })
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` with its pointer.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    // The kernel's union is larger than a pointer.
    rest: [u8; 16],
}

fn ethtool_value(interface: &str, command: u32) -> io::Result<Option<u32>> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut value = EthtoolValue { command, data: 0 };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: &raw mut value,
        rest: [0; 16],
    };
    let name = interface.as_bytes();
    if name.len() >= libc::IFNAMSIZ {
        return Ok(None);
    }
    request.name[..name.len()].copy_from_slice(name);
    // SAFETY: the request has the size of `struct ifreq` at least, its name is ended by a zero, and its pointer leads to
    // a value that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    // A driver that does not know the command refuses it.
    Ok((result == 0).then_some(value.data))
}

/// A setting below `/proc/sys`, as in `net/ipv4/ip_forward`; `None` if there is none.
#[must_use]
pub fn setting(path: &str) -> Option<i64> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.trim().parse().ok()
}

/// The addresses of an interface.
///
/// # Errors
/// If the kernel does not list them.
pub fn addresses(interface: &str) -> io::Result<Vec<IpAddr>> {
    let all = nix::ifaddrs::getifaddrs()?;
    Ok(all
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| {
            let address = entry.address?;
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(IpAddr::V4(v4.ip()));
            }
            address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
        })
        .collect())
}

/// The kernel's release, as in 6.1.0-56-amd64.
#[must_use]
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// Whether a service keeps the clock in time; `None` if the kernel does not say.
#[must_use]
pub fn clock_is_synchronized() -> Option<bool> {
    const TIME_ERROR: libc::c_int = 5;
    // SAFETY: all bytes zero are a value of this plain struct, and ask for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the struct outlives the call.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => None,
        result => Some(result != TIME_ERROR && state.status & libc::STA_UNSYNC == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_facts() {
        let link = link("lo").unwrap().unwrap();
        assert_eq!((link.index, link.name.as_str()), (1, "lo"));
        assert!(link.mtu >= 1_280, "{link:?}");
        assert_eq!(super::link("no-such-iface").unwrap(), None);
        // The loopback interface does GRO, and has no hardware that could merge.
        assert_eq!(offloads("lo").unwrap().lro, Some(false));
        assert!(offloads("lo").unwrap().gro.is_some());
        assert_eq!(offloads("no-such-iface").unwrap(), Offloads::default());
    }

    #[test]
    fn settings_of_the_kernel_are_read() {
        assert!(setting("net/ipv4/ip_forward").is_some());
        assert_eq!(setting("net/ipv4/no_such_setting"), None);
        let release = kernel_release();
        assert!(release.contains('.'), "{release}");
    }
}
