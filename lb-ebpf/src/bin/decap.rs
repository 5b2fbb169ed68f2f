//! The programs of a real's interface.
//!
//! `decap` (XDP) takes the balancer's outer header off packets for the real's VIPs and passes the inner
//! packet to the host's stack. The decision is `lb_common::decap`.
//! `clamp` (tc, on the way out) lowers the segment size that a VIP's connections announce, so that the
//! client's packets leave room for the outer header.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the macros put an entry point without the comment beside each program"
)]

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    macros::{classifier, map, xdp},
    maps::{Array, HashMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    decap::{
        MAX_VIPS, REASON_SLOTS, Vips, decapsulate,
        segment::{Announcement, Lowered, announcement, lowered},
    },
    headers::{tcp, udp},
    reason::Verdict,
};
use lb_ebpf::frame::{SkbFrame, XdpFrame};

/// See `lb_common::decap::names`.
#[map]
static VIPS4: HashMap<[u8; 4], u32> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
/// See `lb_common::decap::names`.
#[map]
static VIPS6: HashMap<[u8; 16], u32> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
/// See `lb_common::decap::names`.
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASON_SLOTS, 0);

/// See `lb_common::decap::names`.
#[map]
static SEGMENTS: Array<u32> = Array::with_max_entries(2, 0);

/// See `lb_common::decap::names`.
#[unsafe(no_mangle)]
static GUE_PORT: Global<u16> = Global::new(udp::GUE_PORT);

/// The VIPs in the kernel's maps.
struct Maps;

impl Vips for Maps {
    #[inline(always)]
    fn has4(&self, address: &[u8; 4]) -> bool {
        VIPS4.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn has6(&self, address: &[u8; 16]) -> bool {
        VIPS6.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        GUE_PORT.load()
    }
}

/// Decapsulates one frame.
#[xdp]
pub fn decap(context: XdpContext) -> u32 {
    let reason = decapsulate(&mut XdpFrame::new(context), &Maps);
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own counter; XDP programs of one CPU do not interrupt each other.
        unsafe { *count += 1 };
    }
    match reason.verdict() {
        Verdict::Drop => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// tc's verdict for packets that the next program, or the interface, is to have.
const NEXT: i32 = -1;

/// Lowers the segment size that a SYN or SYN-ACK announces.
#[classifier]
pub fn clamp(context: TcContext) -> i32 {
    let Some(Announcement {
        family,
        tcp: header,
        offset,
        size,
    }) = announcement(&mut SkbFrame::new(&context), &Maps)
    else {
        return NEXT;
    };
    let Some(limit) = SEGMENTS.get(family as u32) else {
        return NEXT;
    };
    if let Some(Lowered { old, new }) = lowered(size, *limit) {
        let _ = rewrite(&context, header, offset, old, new);
    }
    NEXT
}

/// Writes the option and updates the checksum of the TCP header at `header`. After an error the packet leaves
/// unchanged or with a wrong checksum; the peer then retransmits.
#[inline(always)]
fn rewrite(
    context: &TcContext,
    header: usize,
    offset: usize,
    old: u16,
    new: u16,
) -> Result<(), i64> {
    // A field at an odd place counts with its bytes swapped (RFC 1071 section 2).
    let swap = |value: u16| {
        u64::from(if (offset - header) & 1 == 1 {
            value.swap_bytes()
        } else {
            value
        })
    };
    context.l4_csum_replace(header + tcp::CHECKSUM, swap(old), swap(new), 2)?;
    context.store(offset, &new, 0)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
