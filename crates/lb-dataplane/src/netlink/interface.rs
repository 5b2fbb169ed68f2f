//! Properties of an interface.

use std::io;

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};

use super::socket::Requests;

fn link(requests: &mut Requests, index: u32) -> io::Result<LinkMessage> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match requests.request(RouteNetlinkMessage::GetLink(message), 0)? {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        _ => Err(io::Error::other(
            "the kernel's answer does not describe an interface",
        )),
    }
}

/// The MAC address of an interface, `None` if it has no such address, as a tunnel; and its MTU, 0 if it has none.
pub(crate) fn mac_and_mtu(
    requests: &mut Requests,
    index: u32,
) -> io::Result<(Option<[u8; 6]>, u32)> {
    let link = link(requests, index)?;
    let (mut mac, mut mtu) = (None, 0);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            _ => {}
        }
    }
    Ok((mac, mtu))
}

/// Whether the XDP program on an interface runs in its driver.
///
/// # Errors
/// If there is no such interface.
pub(crate) fn xdp_is_native(index: u32) -> io::Result<bool> {
    let link = link(&mut Requests::new()?, index)?;
    Ok(link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().any(|part| {
            matches!(
                part,
                LinkXdp::Attached(
                    XdpAttached::Driver | XdpAttached::Hardware | XdpAttached::Multiple
                )
            )
        }),
        _ => false,
    }))
}
