//! The route by which the kernel would send a packet.

use std::{io, net::IpAddr};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
};

use super::socket::Requests;

/// Why no packet leaves this host for an address of its own.
pub(crate) const OWN: &str = "it is an address of this host; a real must be another one";

/// A route to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Index of the interface to send from.
    pub interface: u32,
    /// The neighbour that frames are sent to: the address itself or a router.
    pub neighbour: IpAddr,
    /// Whether the neighbour is the address itself.
    pub direct: bool,
    /// The largest packet that the route takes, or that a router on the way was found to take; 0: no smaller one
    /// than the interface.
    pub mtu: u32,
}

/// Looks up the route to an address; the error says in words why there is none.
pub(crate) fn look_up(requests: &mut Requests, address: IpAddr) -> Result<Route, String> {
    let mut message = RouteMessage::default();
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message
        .attributes
        .push(RouteAttribute::Destination(RouteAddress::from(address)));
    let answer = requests
        .request(RouteNetlinkMessage::GetRoute(message), 0)
        .map_err(|error| no_route(&error))?;
    let Some(RouteNetlinkMessage::NewRoute(route)) = answer else {
        return Err("the kernel returned no route".to_owned());
    };
    read(&route, address)
}

fn no_route(error: &io::Error) -> String {
    format!("there is no route to it ({error}); add one with `ip route add`")
}

fn read(route: &RouteMessage, address: IpAddr) -> Result<Route, String> {
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => {
            return Err(OWN.to_owned());
        }
        other => {
            return Err(format!(
                "its route has the type {other:?}, by which no packet is sent"
            ));
        }
    }
    let mut interface = None;
    let mut gateway = None;
    let mut mtu = 0;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(router)) => {
                gateway = Some(IpAddr::V4(*router));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(router)) => {
                gateway = Some(IpAddr::V6(*router));
            }
            RouteAttribute::Via(RouteVia::Inet(router)) => gateway = Some(IpAddr::V4(*router)),
            RouteAttribute::Via(RouteVia::Inet6(router)) => gateway = Some(IpAddr::V6(*router)),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(bytes) = metric {
                        mtu = *bytes;
                    }
                }
            }
            _ => {}
        }
    }
    let interface = interface.ok_or("its route names no interface")?;
    Ok(Route {
        interface,
        neighbour: gateway.unwrap_or(address),
        direct: gateway.is_none(),
        mtu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn routes_are_read() {
        let address: IpAddr = "10.1.0.2".parse().unwrap();
        let router: IpAddr = "10.9.0.1".parse().unwrap();
        let connected = route(RouteType::Unicast, vec![RouteAttribute::Oif(3)]);
        assert_eq!(
            read(&connected, address),
            Ok(Route {
                interface: 3,
                neighbour: address,
                direct: true,
                mtu: 0,
            })
        );
        let routed = route(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(3),
                RouteAttribute::Gateway(router.into()),
            ],
        );
        assert_eq!(
            read(&routed, address),
            Ok(Route {
                interface: 3,
                neighbour: router,
                direct: false,
                mtu: 0,
            })
        );
        let v6: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let via = route(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(3),
                RouteAttribute::Via(RouteVia::Inet6(v6)),
            ],
        );
        assert_eq!(
            read(&via, address),
            Ok(Route {
                interface: 3,
                neighbour: v6.into(),
                direct: false,
                mtu: 0,
            })
        );
        let narrow = route(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(3),
                RouteAttribute::Metrics(vec![RouteMetric::Mtu(1_400)]),
            ],
        );
        assert_eq!(read(&narrow, address).unwrap().mtu, 1_400);
        for kind in [RouteType::Local, RouteType::BlackHole, RouteType::Multicast] {
            assert!(read(&route(kind, vec![RouteAttribute::Oif(1)]), address).is_err());
        }
    }
}
