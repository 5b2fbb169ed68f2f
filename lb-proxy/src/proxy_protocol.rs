//! The PROXY protocol, version 2: a header before the first byte of a connection that names the client.
//!
//! The format is that of HAProxy's document "The PROXY protocol, versions 1 & 2", section 2.2.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command LOCAL: the sender's own connection, such as a health check.
const LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// Bytes of the fixed part.
const FIXED: usize = 16;
/// Bytes that the rest may have: addresses and extensions of any sensible sender.
const MOST: usize = 4_096;

/// Reads the header. Returns the client's address and the address it connected to, or `None` if the sender speaks for
/// itself or the addresses are of another family.
///
/// # Errors
/// There is no such header, it is too long, or the connection failed.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let (signature, rest) = fixed.split_at(SIGNATURE.len());
    let [command, family, high, low] = *rest else {
        return Err(invalid("the header is cut"));
    };
    if signature != SIGNATURE || !matches!(command, LOCAL | PROXY) {
        return Err(invalid("there is no PROXY header of version 2"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST {
        return Err(invalid("the PROXY header is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    if command == LOCAL {
        return Ok(None);
    }
    addresses(family, &rest)
}

fn addresses(family: u8, rest: &[u8]) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let size = match family {
        TCP4 => 4,
        TCP6 => 16,
        _ => return Ok(None),
    };
    let Some((ips, ports)) = rest.split_at_checked(2 * size) else {
        return Err(invalid("the PROXY header has no addresses"));
    };
    let [a, b, c, d, ..] = *ports else {
        return Err(invalid("the PROXY header has no ports"));
    };
    let ip = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(four) => IpAddr::from(Ipv4Addr::from(four)),
        Err(_) => <[u8; 16]>::try_from(bytes).map_or(Ipv6Addr::UNSPECIFIED.into(), IpAddr::from),
    };
    let (source, destination) = ips.split_at(size);
    Ok(Some((
        SocketAddr::new(ip(source), u16::from_be_bytes([a, b])),
        SocketAddr::new(ip(destination), u16::from_be_bytes([c, d])),
    )))
}

/// Returns the header that names `client`, which connected to `local`.
#[must_use]
pub fn header(client: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            let six = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            header.extend([TCP6, 0, 36]);
            header.extend(six(from).octets());
            header.extend(six(to).octets());
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(local.port().to_be_bytes());
    header
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<(Option<(SocketAddr, SocketAddr)>, usize)> {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let found = runtime.block_on(read(&mut rest))?;
        Ok((found, rest.len()))
    }

    #[test]
    fn what_is_written_is_read() {
        for (client, local) in [
            ("192.0.2.1:4000", "10.0.0.1:80"),
            ("[2001:db8::1]:4000", "[2001:db8::2]:443"),
        ] {
            let pair = (client.parse().unwrap(), local.parse().unwrap());
            let mut bytes = header(pair.0, pair.1);
            bytes.extend(b"GET /");
            assert_eq!(read_all(&bytes).unwrap(), (Some(pair), 5));
        }
        // Different families: IPv4 is written as IPv6.
        let bytes = header("192.0.2.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        let (found, left) = read_all(&bytes).unwrap();
        assert_eq!((found.unwrap().0.port(), left), (1, 0));
    }

    #[test]
    fn extensions_are_skipped_and_others_are_no_clients() {
        let mut bytes = header(
            "192.0.2.1:1".parse().unwrap(),
            "10.0.0.1:2".parse().unwrap(),
        );
        bytes[15] += 3;
        bytes.extend([4, 0, 0, b'x']);
        assert_eq!(read_all(&bytes).unwrap().1, 1);
        let mut local = SIGNATURE.to_vec();
        local.extend([LOCAL, 0, 0, 0]);
        assert_eq!(read_all(&local).unwrap(), (None, 0));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let whole = header(
            "192.0.2.1:1".parse().unwrap(),
            "10.0.0.1:2".parse().unwrap(),
        );
        for length in 0..whole.len() {
            assert!(read_all(&whole[..length]).is_err(), "{length}");
        }
        assert!(read_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
        let mut version = whole.clone();
        version[12] = 0x11;
        assert!(read_all(&version).is_err());
        let mut short = whole;
        short[15] = 4;
        assert!(read_all(&short).is_err());
    }
}
