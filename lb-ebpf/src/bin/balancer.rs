//! The balancer: the forwarding decision of `lb_common`, on maps; and beside it the way out for probes.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the macros make functions without the documentation of ours"
)]

#[path = "balancer/log.rs"]
mod log;
#[path = "balancer/maps.rs"]
mod maps;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    decide::decide,
    probe,
    reason::{Reason, Verdict},
};
use lb_ebpf::frame::{SkbFrame, XdpFrame};

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

/// tc's word for: this packet is none of our business.
const NEXT: i32 = -1;

/// Sends the host's probes to their reals; everything else leaves untouched.
#[classifier]
pub fn probes(context: TcContext) -> i32 {
    // SAFETY: the context is this program's own, and the kernel lets it read the mark.
    let mark = unsafe { (*context.skb.skb).mark };
    let Some(real) = probe::real_of(mark) else {
        return NEXT;
    };
    match probe::send(&mut SkbFrame::new(&context), &Quiet::new(), real) {
        Ok(interface) => {
            // It leaves by an interface where this program is, too.
            context.set_mark(0);
            // SAFETY: a helper without conditions; it answers with the verdict.
            unsafe { bpf_redirect(interface, 0) as i32 }
        }
        Err(Reason::NotIp) => NEXT,
        // Sent as it is, it would come to whoever the route leads to, and tell of another real or of none.
        Err(_) => TC_ACT_SHOT as i32,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
