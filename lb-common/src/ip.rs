//! What differs between IPv4 and IPv6, so that the steps of the decision are written once.

use core::net::IpAddr;

use crate::{
    echo,
    fragments::{self, Piece},
    frame::{Fields as _, Frame},
    hash::{Addresses, Addresses4, Addresses6},
    headers::{IPPROTO_ICMP, IPPROTO_ICMPV6},
    icmp_error,
    lookup::Tables,
    parse::{self, Packet},
    reason::Reason,
    tables::config::{ANY_PORT_V4, ANY_PORT_V6, WIDE_V4, WIDE_V6},
    vip_table::{self, PackedVipKey},
};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// A version of the Internet Protocol.
pub trait Ip {
    /// A packet's addresses.
    type Addresses: Addresses;
    /// Its family.
    const FAMILY: Family;
    /// The protocol of its echo requests and errors.
    const ICMP: u32;
    /// The flag of [`crate::tables::config::Config`] that some VIP of it has port 0.
    const ANY_PORT: u32;
    /// The flag of [`crate::tables::config::Config`] that some VIP of it is wide.
    const WIDE: u32;

    /// Reads the packet in a frame of its Ethernet type.
    ///
    /// # Errors
    /// The reason to pass the frame to the host.
    fn parse<F: Frame>(frame: &mut F) -> Result<Packet<Self::Addresses>, Reason>;

    /// The destination in network order; IPv4 in the first four bytes.
    fn destination(addresses: &Self::Addresses) -> [u8; 16];

    /// The service of a VIP with the packet's destination address; `port` as it lies in a packet.
    fn find<T: Tables>(
        tables: &T,
        addresses: &Self::Addresses,
        port: u16,
        protocol: u32,
    ) -> Option<u32>;

    /// The flow's packet, as its client would send it, whose answer the ICMP error `packet` quotes.
    fn quoted<F: Frame>(
        frame: &mut F,
        packet: &Packet<Self::Addresses>,
    ) -> Option<Packet<Self::Addresses>>;

    /// The fragment in a frame of its Ethernet type.
    fn piece<F: Frame>(frame: &mut F) -> Option<Piece<Self::Addresses>>;

    /// Addresses, length with the IP header in bytes, and TTL or hop limit of a packet that was parsed.
    fn head<F: Frame>(frame: &mut F) -> Option<(Self::Addresses, u32, u32)>;

    /// Makes the echo request whose ICMP header is at `offset` its answer.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if the frame is shorter than it was when it was parsed.
    fn answer_echo<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason>;
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl Ip for V4 {
    type Addresses = Addresses4;
    const FAMILY: Family = Family::V4;
    const ICMP: u32 = IPPROTO_ICMP;
    const ANY_PORT: u32 = ANY_PORT_V4;
    const WIDE: u32 = WIDE_V4;

    #[inline(always)]
    fn destination(addresses: &Addresses4) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.set_u32_at::<0>(addresses.destination);
        bytes
    }

    #[inline(always)]
    fn parse<F: Frame>(frame: &mut F) -> Result<Packet<Addresses4>, Reason> {
        parse::packet4(frame)
    }

    #[inline(always)]
    fn find<T: Tables>(
        tables: &T,
        addresses: &Addresses4,
        port: u16,
        protocol: u32,
    ) -> Option<u32> {
        let key = PackedVipKey::v4(addresses.destination, port, protocol);
        vip_table::look_up(&tables.vip_hash(), &key, |bucket| tables.vips4(bucket))
    }

    #[inline(always)]
    fn quoted<F: Frame>(frame: &mut F, packet: &Packet<Addresses4>) -> Option<Packet<Addresses4>> {
        icmp_error::quoted4(frame, packet)
    }

    #[inline(always)]
    fn piece<F: Frame>(frame: &mut F) -> Option<Piece<Addresses4>> {
        fragments::piece4(frame)
    }

    #[inline(always)]
    fn head<F: Frame>(frame: &mut F) -> Option<(Addresses4, u32, u32)> {
        fragments::head4(frame)
    }

    #[inline(always)]
    fn answer_echo<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
        echo::answer4(frame, offset)
    }
}

impl Ip for V6 {
    type Addresses = Addresses6;
    const FAMILY: Family = Family::V6;
    const ICMP: u32 = IPPROTO_ICMPV6;
    const ANY_PORT: u32 = ANY_PORT_V6;
    const WIDE: u32 = WIDE_V6;

    #[inline(always)]
    fn destination(addresses: &Addresses6) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.set_u64_at::<0>(addresses.destination[0]);
        bytes.set_u64_at::<8>(addresses.destination[1]);
        bytes
    }

    #[inline(always)]
    fn parse<F: Frame>(frame: &mut F) -> Result<Packet<Addresses6>, Reason> {
        parse::packet6(frame)
    }

    #[inline(always)]
    fn find<T: Tables>(
        tables: &T,
        addresses: &Addresses6,
        port: u16,
        protocol: u32,
    ) -> Option<u32> {
        let digest = tables.address_digest();
        let key = PackedVipKey::v6(&digest, addresses.destination, port, protocol);
        vip_table::look_up(&tables.vip_hash(), &key, |bucket| tables.vips6(bucket))
    }

    #[inline(always)]
    fn quoted<F: Frame>(frame: &mut F, packet: &Packet<Addresses6>) -> Option<Packet<Addresses6>> {
        icmp_error::quoted6(frame, packet)
    }

    #[inline(always)]
    fn piece<F: Frame>(frame: &mut F) -> Option<Piece<Addresses6>> {
        fragments::piece6(frame)
    }

    #[inline(always)]
    fn head<F: Frame>(frame: &mut F) -> Option<(Addresses6, u32, u32)> {
        fragments::head6(frame)
    }

    #[inline(always)]
    fn answer_echo<F: Frame>(frame: &mut F, offset: usize) -> Result<(), Reason> {
        echo::answer6(frame, offset)
    }
}
