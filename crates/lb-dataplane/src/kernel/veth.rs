//! What a veth pair does to XDP, and how an operator avoids it.
//!
//! A frame that a program sends back (XDP_TX) or redirects to one end of the pair is dropped without a trace unless the
//! other end receives by NAPI. It does if it has an XDP program of its own. With GRO alone it receives by NAPI, too, but
//! only redirected frames wake it: a frame that is sent back waits in the ring, for seconds, until another one does.

use crate::netlink::{
    links::{self, Link},
    socket::Requests,
};

/// What an operator should know of an interface that may be one end of a veth pair.
pub(crate) fn advice(link: &Link, requests: &mut Requests) -> Option<String> {
    if !link.is_veth {
        return None;
    }
    let peer = links::by_index(requests, link.peer?, link.peer_namespace).ok()??;
    peer.programs.is_empty().then(|| {
        format!(
            "{} is one end of a veth pair whose other end ({}, index {}) has no XDP program: the kernel drops the frames \
             that are sent by {0}, or delays them by seconds if the other end has GRO on, and counts them as sent; \
             attach any XDP program to {1}",
            link.name, peer.name, peer.index
        )
    })
}
