//! What a veth pair does to XDP, and how an operator avoids it.
//!
//! A frame that a program sends back (XDP_TX) or redirects to one end of the pair is dropped without a trace unless the
//! other end receives by NAPI. It does if it has an XDP program of its own, or GRO on.

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
             that are sent by {0}, and counts them as sent, unless the other end has GRO on; attach any XDP program to \
             it, or `ethtool -K {1} gro on` there",
            link.name, peer.name, peer.index
        )
    })
}
