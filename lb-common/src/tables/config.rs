//! What every packet may need to know, in one line.

/// The one entry of [`super::names::CONFIG`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Config {
    /// [`ANY_PORT_V4`] and [`ANY_PORT_V6`].
    pub flags: u32,
    /// Zero.
    pub pad: [u32; 15],
}

/// There is an IPv4 VIP with port 0, so a miss is looked up again without the port.
pub const ANY_PORT_V4: u32 = 1;
/// There is an IPv6 VIP with port 0.
pub const ANY_PORT_V6: u32 = 2;

const _: () = assert!(size_of::<Config>() == 64);
