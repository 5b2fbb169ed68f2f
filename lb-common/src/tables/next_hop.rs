//! Next hops: the interface and the MAC addresses that a frame leaves with.

/// An entry of [`super::names::NEXT_HOPS`]. A changed next hop gets a new entry, so a packet never reads a
/// half-written one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct NextHop {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC: the interface's own.
    pub source: [u8; 6],
    /// Interface to send from; 0 means that the entry is empty.
    pub interface: u32,
}

const _: () = assert!(size_of::<NextHop>() == 16);
