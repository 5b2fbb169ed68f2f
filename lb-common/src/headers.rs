//! Where the fields of the protocol headers lie, and the numbers they hold.
//!
//! Every offset counts from the start of its own header. A field of a nested header is read at the sum of
//! the offsets: `header.u8_at::<{ IP + ipv4::TTL }>()`.

/// Offset of the IP header in a frame. VLAN tags are not parsed, so it is the same in every frame.
pub const IP: usize = ethernet::LENGTH;
/// Offset of the inner packet in a frame whose outer header is IPv4 without options.
pub const INNER_OFFSET_V4: usize = IP + ipv4::LENGTH;
/// Offset of the inner packet in a frame whose outer header is IPv6 without extension headers.
pub const INNER_OFFSET_V6: usize = IP + ipv6::LENGTH;

/// Ethernet II.
pub mod ethernet {
    /// Bytes of the header.
    pub const LENGTH: usize = 14;
    /// Shortest frame without its check sequence. Not every driver pads what XDP sends.
    pub const SHORTEST_FRAME: usize = 60;

    /// Destination address, 6 bytes.
    pub const DESTINATION: usize = 0;
    /// Source address, 6 bytes.
    pub const SOURCE: usize = 6;
    /// Type of the payload, 2 bytes.
    pub const TYPE: usize = 12;

    /// Type of IPv4, as it lies in a frame.
    pub const TYPE_IPV4: u16 = 0x0800_u16.to_be();
    /// Type of IPv6, as it lies in a frame.
    pub const TYPE_IPV6: u16 = 0x86DD_u16.to_be();
}

/// IPv4 (RFC 791).
pub mod ipv4 {
    /// Bytes of a header without options.
    pub const LENGTH: usize = 20;
    /// First byte of a header without options: version 4, five words.
    pub const VERSION_AND_LENGTH: u8 = 0x45;

    /// Version (high four bits) and length of the header in words, 1 byte.
    pub const VERSION: usize = 0;
    /// DSCP and ECN, 1 byte.
    pub const TOS: usize = 1;
    /// Length of the packet, 2 bytes.
    pub const TOTAL_LENGTH: usize = 2;
    /// Identification, 2 bytes.
    pub const IDENTIFICATION: usize = 4;
    /// Flags and fragment offset, 2 bytes.
    pub const FRAGMENT: usize = 6;
    /// Time to live, 1 byte.
    pub const TTL: usize = 8;
    /// Protocol of the payload, 1 byte.
    pub const PROTOCOL: usize = 9;
    /// Checksum of the header, 2 bytes.
    pub const CHECKSUM: usize = 10;
    /// Source address, 4 bytes.
    pub const SOURCE: usize = 12;
    /// Destination address, 4 bytes.
    pub const DESTINATION: usize = 16;

    /// "Don't fragment" in the two bytes at [`FRAGMENT`], as it lies in a packet.
    pub const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
    /// "More fragments" and the offset in the two bytes at [`FRAGMENT`], as they lie in a packet: a packet
    /// with any of these bits is a fragment.
    pub const FRAGMENTED: u16 = 0x3FFF_u16.to_be();
    /// The offset in the two bytes at [`FRAGMENT`], as it lies in a packet.
    pub const FRAGMENT_OFFSET: u16 = 0x1FFF_u16.to_be();
}

/// IPv6 (RFC 8200).
pub mod ipv6 {
    /// Bytes of the header.
    pub const LENGTH: usize = 40;

    /// Version, traffic class and flow label, 4 bytes.
    pub const VERSION: usize = 0;
    /// The byte that holds the low four bits of the traffic class (in its high half), and so ECN.
    pub const CLASS_LOW: usize = 1;
    /// Length of what follows the header, 2 bytes.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Protocol of the payload, or kind of the first extension header, 1 byte.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit, 1 byte.
    pub const HOP_LIMIT: usize = 7;
    /// Source address, 16 bytes.
    pub const SOURCE: usize = 8;
    /// Destination address, 16 bytes.
    pub const DESTINATION: usize = 24;

    /// Every link carries packets of this length (RFC 8200 section 5).
    pub const LEAST_MTU: u32 = 1_280;

    /// Extension headers (RFC 8200 section 4). Their length is a multiple of 8 bytes.
    pub mod extension {
        /// Bytes of the shortest one.
        pub const LENGTH: usize = 8;

        /// Kind of the header that follows, 1 byte.
        pub const NEXT_HEADER: usize = 0;
        /// Length in units of 8 bytes, the first not counted, 1 byte.
        pub const HEADER_LENGTH: usize = 1;
        /// Segments left, in a routing header, 1 byte.
        pub const SEGMENTS_LEFT: usize = 3;
        /// Offset and "more fragments", in a fragment header, 2 bytes. That header has no length: it has
        /// [`LENGTH`] bytes.
        pub const FRAGMENT: usize = 2;

        /// The offset and "more fragments" in the two bytes at [`FRAGMENT`], as they lie in a packet: without
        /// any of these bits it is a whole packet (RFC 6946).
        pub const FRAGMENTED: u16 = 0xFFF9_u16.to_be();
        /// The offset in the two bytes at [`FRAGMENT`], as it lies in a packet.
        pub const FRAGMENT_OFFSET: u16 = 0xFFF8_u16.to_be();
        /// Identification, in a fragment header, 4 bytes.
        pub const IDENTIFICATION: usize = 4;
    }
}

/// TCP (RFC 9293).
pub mod tcp {
    /// Bytes of a header without options.
    pub const LENGTH: usize = 20;

    /// Source and destination port, 4 bytes.
    pub const PORTS: usize = 0;
    /// Sequence number, 4 bytes.
    pub const SEQUENCE: usize = 4;
    /// Acknowledgment number, 4 bytes.
    pub const ACKNOWLEDGMENT: usize = 8;
    /// Length of the header in words (high four bits), 1 byte.
    pub const DATA_OFFSET: usize = 12;
    /// Flags, 1 byte.
    pub const FLAGS: usize = 13;
    /// Checksum, 2 bytes.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer, 2 bytes.
    pub const URGENT: usize = 18;

    /// Flag "no more data".
    pub const FIN: u32 = 0x01;
    /// Flag "synchronise": a connection begins.
    pub const SYN: u32 = 0x02;
    /// Flag "reset".
    pub const RST: u32 = 0x04;
    /// Flag "acknowledgment".
    pub const ACK: u32 = 0x10;

    /// Options. Each but the first two has its length in the second byte.
    pub mod option {
        /// End of the options.
        pub const END: u8 = 0;
        /// One byte of padding.
        pub const NO_OPERATION: u8 = 1;
        /// Maximum segment size.
        pub const MAXIMUM_SEGMENT_SIZE: u8 = 2;
        /// Bytes of the option [`MAXIMUM_SEGMENT_SIZE`].
        pub const MAXIMUM_SEGMENT_SIZE_LENGTH: u8 = 4;

        /// The server that a connection belongs to, as Katran has it.
        pub const SERVER_ID: u8 = 0xB7;
        /// Bytes of the option [`SERVER_ID`].
        pub const SERVER_ID_LENGTH: usize = 6;

        /// Kind of the option, 1 byte.
        pub const KIND: usize = 0;
        /// Its length, 1 byte.
        pub const OPTION_LENGTH: usize = 1;
        /// Its value.
        pub const VALUE: usize = 2;
    }
}

/// UDP (RFC 768).
pub mod udp {
    /// Bytes of the header.
    pub const LENGTH: usize = 8;

    /// Source and destination port, 4 bytes.
    pub const PORTS: usize = 0;
    /// Length of the datagram, header included, 2 bytes.
    pub const DATAGRAM_LENGTH: usize = 4;
    /// Checksum, 2 bytes; 0 means that there is none.
    pub const CHECKSUM: usize = 6;

    /// Destination port of generic UDP encapsulation, if no other one is set (IANA).
    pub const GUE_PORT: u16 = 6080;
}

/// QUIC (RFC 8999, and RFC 9000 for the types of packets).
pub mod quic {
    /// Bytes in front of the connection id in a packet with a short header.
    pub const SHORT: usize = 1;
    /// Bytes in front of the connection id in a packet with a long header.
    pub const LONG: usize = 6;

    /// Version, in a long header, 4 bytes.
    pub const VERSION: usize = 1;
    /// Length of the destination's connection id, in a long header, 1 byte.
    pub const DESTINATION_LENGTH: usize = 5;

    /// Bit of the first byte of a long header.
    pub const LONG_HEADER: u8 = 0x80;
    /// Where the type of a packet with a long header is in its first byte.
    pub const TYPE_SHIFT: u8 = 4;
    /// Bits of the type.
    pub const TYPE_MASK: u8 = 3;
    /// Type of a packet with early data. That of a client's first packet is smaller, those of later ones are larger.
    pub const ZERO_RTT: u8 = 1;
    /// Version 2, whose types are larger by one (RFC 9369 section 3.2).
    pub const VERSION_2: u32 = 0x6B33_43CF;
}

/// "Stable routing" of UDP, as Katran has it: datagrams that begin with the id of a server.
pub mod stable_routing {
    /// Bytes of the mark and the id.
    pub const LENGTH: usize = 4;
    /// The first byte. The id is in the three behind it.
    pub const MARK: u8 = 0x52;
}

/// SCTP (RFC 9260).
pub mod sctp {
    /// Bytes of the common header and of the head of the first chunk.
    pub const LENGTH: usize = 16;

    /// Source and destination port, 4 bytes.
    pub const PORTS: usize = 0;
    /// Type of the first chunk, 1 byte.
    pub const CHUNK: usize = 12;

    /// A chunk that begins an association. It is alone in its packet.
    pub const INIT: u8 = 1;
    /// A chunk that ends an association at once.
    pub const ABORT: u8 = 6;
    /// A chunk that ends an association. It is alone in its packet.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// ICMP (RFC 792) and ICMPv6 (RFC 4443): echo messages and errors are the same in both but for their types.
pub mod icmp {
    /// Bytes of the header of an echo message, and of what precedes the quoted packet in an error.
    pub const LENGTH: usize = 8;

    /// Type and code, 1 byte each.
    pub const TYPE: usize = 0;
    /// Code, 1 byte.
    pub const CODE: usize = 1;
    /// Checksum, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Identifier and sequence number of an echo message, 4 bytes.
    pub const IDENTIFIER: usize = 4;
    /// The MTU of the next hop in ICMPv6's "packet too big", 4 bytes. ICMP's "fragmentation needed" has it in
    /// the last two of them (RFC 1191 section 4).
    pub const MTU: usize = 4;

    /// Type of ICMP's "destination unreachable".
    pub const UNREACHABLE: u8 = 3;
    /// Code of "destination unreachable": the packet must be fragmented and may not be.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Code of "destination unreachable": nothing serves the port.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Code of ICMPv6's "destination unreachable": nothing serves the port.
    pub const PORT_UNREACHABLE_V6: u8 = 4;
    /// Type of ICMPv6's "time exceeded".
    pub const TIME_EXCEEDED_V6: u8 = 3;
    /// Type of ICMP's "time exceeded".
    pub const TIME_EXCEEDED: u8 = 11;
    /// Type of ICMP's "parameter problem".
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Type of ICMPv6's "destination unreachable".
    pub const UNREACHABLE_V6: u8 = 1;
    /// Type of ICMPv6's "packet too big".
    pub const TOO_BIG_V6: u8 = 2;
    /// Type of ICMPv6's "parameter problem", the last of its errors about a packet.
    pub const PARAMETER_PROBLEM_V6: u8 = 4;

    /// Type of ICMP's echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Type of ICMP's echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Type of ICMPv6's echo request.
    pub const ECHO_REQUEST_V6: u8 = 128;
    /// Type of ICMPv6's echo reply.
    pub const ECHO_REPLY_V6: u8 = 129;
}

/// Hop-by-hop options of IPv6.
pub const IPPROTO_HOPOPTS: u32 = 0;
/// ICMP.
pub const IPPROTO_ICMP: u32 = 1;
/// IPv4 in IP.
pub const IPPROTO_IPIP: u32 = 4;
/// TCP.
pub const IPPROTO_TCP: u32 = 6;
/// UDP.
pub const IPPROTO_UDP: u32 = 17;
/// IPv6 in IP.
pub const IPPROTO_IPV6: u32 = 41;
/// Routing header of IPv6.
pub const IPPROTO_ROUTING: u32 = 43;
/// Fragment header of IPv6.
pub const IPPROTO_FRAGMENT: u32 = 44;
/// ICMPv6.
pub const IPPROTO_ICMPV6: u32 = 58;
/// SCTP.
pub const IPPROTO_SCTP: u32 = 132;
/// Destination options of IPv6.
pub const IPPROTO_DSTOPTS: u32 = 60;

const _: () = {
    assert!(ethernet::TYPE + 2 == ethernet::LENGTH);
    assert!(ethernet::SOURCE - ethernet::DESTINATION == 6);
    assert!(ipv4::DESTINATION + 4 == ipv4::LENGTH && ipv4::SOURCE + 4 == ipv4::DESTINATION);
    assert!((ipv4::VERSION_AND_LENGTH & 0xF) as usize * 4 == ipv4::LENGTH);
    assert!(ipv4::TTL + 1 == ipv4::PROTOCOL && ipv4::PROTOCOL + 1 == ipv4::CHECKSUM);
    assert!(ipv6::DESTINATION + 16 == ipv6::LENGTH && ipv6::SOURCE + 16 == ipv6::DESTINATION);
    assert!(ipv6::NEXT_HEADER + 1 == ipv6::HOP_LIMIT && ipv6::HOP_LIMIT + 1 == ipv6::SOURCE);
    assert!(tcp::URGENT + 2 == tcp::LENGTH && tcp::CHECKSUM + 2 == tcp::URGENT);
    assert!(tcp::DATA_OFFSET + 1 == tcp::FLAGS);
    // Ports of both are read before the protocol matters.
    assert!(tcp::PORTS == udp::PORTS && sctp::PORTS == tcp::PORTS);
    assert!(icmp::LENGTH == udp::LENGTH);
};
