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
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    helpers::{bpf_skb_load_bytes, bpf_xdp_adjust_head},
    macros::{classifier, map, xdp},
    maps::{Array, HashMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    decap::{
        Aligned, MAX_VIPS, REASON_SLOTS, Shrink, Vips, decapsulate,
        segment::{Announcement, Headers, Lowered, Outgoing, announcement, lowered},
    },
    frame::Frame,
    reason::Verdict,
};

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

/// The frame that the driver hands over.
struct Packet {
    context: XdpContext,
}

impl Frame for Packet {
    #[inline(always)]
    fn length(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.context.data();
        if start + offset + N > self.context.data_end() {
            return None;
        }
        // SAFETY: the bytes lie within the frame, as checked, and nobody else holds a reference to them:
        // the borrow of `self` lasts as long as this one.
        Some(unsafe { &mut *((start + offset) as *mut [u8; N]) })
    }

    #[inline(always)]
    fn push(&mut self, bytes: usize) -> bool {
        // SAFETY: a helper call on the context of this program; no reference into the frame is alive.
        unsafe { bpf_xdp_adjust_head(self.context.ctx, -(bytes as i32)) == 0 }
    }
}

impl Shrink for Packet {
    #[inline(always)]
    fn pull(&mut self, bytes: usize) -> bool {
        // SAFETY: as in `push`.
        unsafe { bpf_xdp_adjust_head(self.context.ctx, bytes as i32) == 0 }
    }
}

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
}

/// Decapsulates one frame.
#[xdp]
pub fn decap(context: XdpContext) -> u32 {
    let reason = decapsulate(&mut Packet { context }, &Maps);
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own counter; XDP programs of one CPU do not interrupt each other.
        unsafe { *count += 1 };
    }
    match reason.verdict() {
        Verdict::Drop => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// The stack's packet on its way out.
struct Leaving<'a>(&'a TcContext);

impl Outgoing for Leaving<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize, into: &mut Aligned<N>) -> bool {
        // SAFETY: a helper call on the context of this program; it writes the `N` bytes of `into`.
        let answer = unsafe {
            bpf_skb_load_bytes(
                self.0.skb.skb.cast(),
                offset as u32,
                into.0.as_mut_ptr().cast(),
                N as u32,
            )
        };
        answer == 0
    }
}

/// The next program, or the interface.
const NEXT: i32 = -1;

/// Lowers what one SYN or SYN-ACK announces.
#[classifier]
pub fn clamp(context: TcContext) -> i32 {
    let Some(Announcement {
        family,
        tcp,
        offset,
        size,
    }) = announcement(&Leaving(&context), &Maps)
    else {
        return NEXT;
    };
    let Some(limit) = SEGMENTS.get(family as u32) else {
        return NEXT;
    };
    if let Some(Lowered { old, new }) = lowered(size, *limit) {
        let _ = rewrite(&context, tcp, offset, old, new);
    }
    NEXT
}

/// Writes the option and what the checksum makes of it. `Err`: the packet leaves as it was, or with a
/// wrong checksum, which a retransmission heals.
#[inline(always)]
fn rewrite(context: &TcContext, tcp: usize, offset: usize, old: u16, new: u16) -> Result<(), i64> {
    // A field at an odd place counts with its bytes swapped (RFC 1071 section 2).
    let swap = |value: u16| {
        u64::from(if (offset - tcp) & 1 == 1 {
            value.swap_bytes()
        } else {
            value
        })
    };
    context.l4_csum_replace(tcp + Headers::TCP_CHECKSUM, swap(old), swap(new), 2)?;
    context.store(offset, &new, 0)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
