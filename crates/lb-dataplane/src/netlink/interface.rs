//! What is to be known of an interface.

use std::io;

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
};

use super::socket::Requests;
use crate::{DataplaneError, error::system};

fn link(requests: &mut Requests, index: u32) -> io::Result<LinkMessage> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match requests.ask(RouteNetlinkMessage::GetLink(message), 0)? {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        _ => Err(io::Error::other("the kernel answered with something else")),
    }
}

/// The MAC address of an interface; `None` if it has none (a tunnel, say).
pub(crate) fn mac(requests: &mut Requests, index: u32) -> io::Result<Option<[u8; 6]>> {
    let link = link(requests, index)?;
    Ok(link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }))
}

/// Whether the XDP program on an interface runs in its driver.
///
/// # Errors
/// [`DataplaneError::System`] if there is no such interface.
pub(crate) fn xdp_is_native(index: u32) -> Result<bool, DataplaneError> {
    let operation = || format!("asking for the XDP mode of interface {index}");
    let mut requests = Requests::new().map_err(system(operation()))?;
    let link = link(&mut requests, index).map_err(system(operation()))?;
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
