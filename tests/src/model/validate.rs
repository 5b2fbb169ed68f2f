//! Checks with etherparse that a strict receiver would accept a frame: headers, lengths, checksums.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::checksum;

/// The state of the checksums of a well-formed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Whether the checksums of all IPv4 headers are correct.
    pub headers: bool,
    /// Whether the checksum of the innermost TCP, UDP, ICMP or ICMPv6 is correct.
    pub transport: bool,
}

/// Ports of generic UDP encapsulation in testbeds.
pub const GUE_PORTS: std::ops::Range<u16> = 6_080..6_180;

/// Checks a frame, and the inner packet if there is one.
///
/// # Errors
/// Returns the part that etherparse finds malformed.
pub fn frame(bytes: &[u8]) -> Result<Checksums, String> {
    let sliced =
        SlicedPacket::from_ethernet(bytes).map_err(|error| format!("Ethernet frame: {error}"))?;
    packet(&sliced)
}

fn packet(sliced: &SlicedPacket<'_>) -> Result<Checksums, String> {
    let net = sliced.net.as_ref().ok_or("no network layer")?;
    let payload = sliced.ip_payload().ok_or("not IP")?;
    let header_right = match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            header.calc_header_checksum() == header.header_checksum
        }
        _ => true,
    };
    let udp = match &sliced.transport {
        // Generic UDP encapsulation: without a checksum, from a dynamic port.
        Some(TransportSlice::Udp(udp))
            if GUE_PORTS.contains(&udp.destination_port()) && udp.source_port() >= 49_152 =>
        {
            Some(udp.payload())
        }
        _ => None,
    };
    let in_ip = matches!(payload.ip_number.0, 4 | 41).then_some(payload.payload);
    if let Some(tunnel) = in_ip.or(udp) {
        let inner = SlicedPacket::from_ip(tunnel)
            .map_err(|error| format!("packet in a tunnel: {error}"))?;
        let inner = packet(&inner)?;
        return Ok(Checksums {
            headers: header_right && inner.headers,
            ..inner
        });
    }
    if payload.ip_number.0 == 132 || payload.fragmented {
        // The balancer does not touch what SCTP's checksum is about, nor anything behind the IP headers of a fragment.
        return Ok(Checksums {
            headers: header_right,
            transport: true,
        });
    }
    let transport = sliced.transport.as_ref().ok_or("no transport layer")?;
    Ok(Checksums {
        headers: header_right,
        transport: transport_right(net, transport)?,
    })
}

fn transport_right(net: &NetSlice<'_>, transport: &TransportSlice<'_>) -> Result<bool, String> {
    let text = |error: etherparse::err::ValueTooBigError<usize>| error.to_string();
    Ok(match (net, transport) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            tcp.calc_checksum_ipv4(source, destination).map_err(text)? == tcp.checksum()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            tcp.calc_checksum_ipv6(source, destination).map_err(text)? == tcp.checksum()
        }
        // 0 means that the sender computed no checksum (RFC 768).
        (NetSlice::Ipv4(_), TransportSlice::Udp(udp)) if udp.checksum() == 0 => true,
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = ip.header().to_header();
            udp.to_header()
                .calc_checksum_ipv4(&header, udp.payload())
                .map_err(text)?
                == udp.checksum()
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            let header = ip.header().to_header();
            udp.to_header()
                .calc_checksum_ipv6(&header, udp.payload())
                .map_err(text)?
                == udp.checksum()
        }
        (NetSlice::Ipv4(_), TransportSlice::Icmpv4(icmp)) => checksum::is_right(icmp.slice()),
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            icmp.is_checksum_valid(ip.header().source(), ip.header().destination())
        }
        _ => return Err("a transport protocol that does not belong to the IP version".to_owned()),
    })
}
