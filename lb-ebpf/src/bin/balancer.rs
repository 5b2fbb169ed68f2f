//! The balancer: the forwarding decision of `lb_common` on maps, and the program that sends probes.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the macros make functions without the documentation of ours"
)]

#[path = "balancer/capture.rs"]
mod capture;
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
    outcome::Outcome,
    probe,
    reason::{Reason, Verdict},
    simulated::Simulated,
};
use lb_ebpf::frame::{SkbFrame, XdpFrame};

use crate::maps::{MapTables, Observing, Quiet, Tracing};

/// Decides on a frame.
#[xdp]
#[inline(always)]
pub fn balancer(context: XdpContext) -> u32 {
    // The conditions are constants of the loaded program: the verifier keeps one of the three.
    if maps::simulates() {
        simulate(context)
    } else if maps::observes() {
        observe(context)
    } else {
        let frame = &mut XdpFrame::new(context);
        action(decide(frame, &MapTables::<Quiet>::new()))
    }
}

/// Decides on a frame for `lbctl simulate`.
///
/// Not a part of the program's main function, in which jumps would become too long; likewise [`observe`].
#[inline(never)]
fn simulate(context: XdpContext) -> u32 {
    let frame = &mut XdpFrame::new(context);
    action(decide(frame, &Simulated(&MapTables::<Tracing>::new())))
}

/// Decides on a frame, and logs or captures it.
#[inline(never)]
fn observe(context: XdpContext) -> u32 {
    let raw = context.ctx;
    let frame = &mut XdpFrame::new(context);
    if maps::captures() {
        capture::keep(raw);
    }
    let outcome = decide(frame, &MapTables::<Observing>::new());
    if maps::captures() {
        capture::send(raw, outcome.verdict());
    }
    action(outcome)
}

/// What the kernel does with the frame.
#[inline(always)]
fn action(outcome: Outcome) -> u32 {
    match outcome.verdict() {
        // SAFETY: a helper without conditions; it returns the verdict.
        Verdict::Redirect => unsafe { bpf_redirect(outcome.interface(), 0) as u32 },
        verdict => verdict as u32,
    }
}

// So that a verdict is an action without a comparison.
const _: () = {
    assert!(Verdict::Drop as u32 == xdp_action::XDP_DROP);
    assert!(Verdict::Pass as u32 == xdp_action::XDP_PASS);
    assert!(Verdict::Tx as u32 == xdp_action::XDP_TX);
};

/// tc's verdict for packets that the next program, or the interface, is to have.
const NEXT: i32 = -1;

/// Sends the host's probes to their reals; all other packets leave unchanged.
#[classifier]
pub fn probes(context: TcContext) -> i32 {
    // SAFETY: the context is this program's own, and the kernel lets it read the mark.
    let mark = unsafe { (*context.skb.skb).mark };
    let Some(real) = probe::real_of(mark) else {
        return NEXT;
    };
    match probe::send(
        &mut SkbFrame::new(&context),
        &MapTables::<Quiet>::new(),
        real,
    ) {
        Ok(interface) => {
            // The interface it leaves by has this program, too.
            context.set_mark(0);
            // SAFETY: a helper without conditions; it returns the verdict.
            unsafe { bpf_redirect(interface, 0) as i32 }
        }
        Err(Reason::NotIp) => NEXT,
        // Sent unchanged, it would follow the route and reach another real or none.
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
