//! Which service a packet is for.

/// Key of [`super::names::VIPS4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Vip4Key {
    /// Address, in network order.
    pub address: [u8; 4],
    /// Port in network order; 0 is any port.
    pub port: [u8; 2],
    /// IP protocol: 6, 17, or 1 with port 0 for echo requests.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// Key of [`super::names::VIPS6`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Vip6Key {
    /// Address, in network order.
    pub address: [u8; 16],
    /// Port in network order; 0 is any port.
    pub port: [u8; 2],
    /// IP protocol: 6, 17, or 58 with port 0 for echo requests.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

/// The service index that answers echo requests and does nothing else.
pub const ECHO_SERVICE: u32 = 0;

const _: () = assert!(size_of::<Vip4Key>() == 8 && size_of::<Vip6Key>() == 20);
