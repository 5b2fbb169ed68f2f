//! The balancer: the forwarding decision of `lb_common`, on maps.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the `xdp` macro makes a function without the documentation of ours"
)]

#[path = "balancer/log.rs"]
mod log;
#[path = "balancer/maps.rs"]
mod maps;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_common::{decide::decide, reason::Verdict};
use lb_ebpf::frame::XdpFrame;

use crate::maps::{Loud, Quiet};

/// Decides on a frame.
#[xdp]
#[inline(always)]
pub fn balancer(context: XdpContext) -> u32 {
    let frame = &mut XdpFrame::new(&context);
    // The verifier knows which: it keeps one of the two and removes the other.
    let decision = if maps::is_loud() {
        decide(frame, &Loud::new())
    } else {
        decide(frame, &Quiet::new())
    };
    match decision.reason.verdict() {
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Tx => xdp_action::XDP_TX,
        // SAFETY: a helper without conditions; it answers with the verdict.
        Verdict::Redirect => unsafe { bpf_redirect(decision.interface, 0) as u32 },
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
