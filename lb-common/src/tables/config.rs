//! Settings that every packet may need, in one cache line.

/// The one entry of [`super::names::CONFIG`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Config {
    /// [`ANY_PORT_V4`], [`ANY_PORT_V6`], [`WIDE_V4`], [`WIDE_V6`] and [`NAT`].
    pub flags: u32,
    /// Zero.
    pub pad: [u32; 15],
}

/// Some IPv4 VIP has port 0, so a miss is looked up again without the port.
pub const ANY_PORT_V4: u32 = 1;
/// Some IPv6 VIP has port 0.
pub const ANY_PORT_V6: u32 = 2;
/// Some IPv4 VIP is a prefix or has a range of ports or several protocols ([`super::wide`]).
pub const WIDE_V4: u32 = 4;
/// Some IPv6 VIP does.
pub const WIDE_V6: u32 = 8;
/// Connections may be translated, so a packet for no VIP is looked up among the answers of reals.
pub const NAT: u32 = 0x10;

const _: () = assert!(size_of::<Config>() == 64);
