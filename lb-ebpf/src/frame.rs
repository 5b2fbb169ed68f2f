//! Frames: those that XDP receives, and packets of the stack that leave by tc.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_skb_load_bytes, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    frame::{Aligned, Frame},
    headers::{ipv4, ipv6, udp},
};

/// The frame of an XDP program's context.
pub struct XdpFrame {
    /// The context itself and not a reference to it: one load less for each look at the frame's ends.
    context: XdpContext,
}

impl XdpFrame {
    /// The context's frame.
    #[inline(always)]
    pub const fn new(context: XdpContext) -> XdpFrame {
        XdpFrame { context }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn length(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.context.data() + offset;
        if start + N > self.context.data_end() {
            return None;
        }
        // SAFETY: no frame lies at address 0. Saying so spares a comparison: `None` would be written as 0.
        unsafe { core::hint::assert_unchecked(start != 0) };
        // SAFETY: the bytes lie between the frame's ends, which the verifier checks once more; the window
        // borrows the frame, so there is only one at a time.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    #[inline(always)]
    fn context(&self) -> *mut core::ffi::c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn push(&mut self, bytes: usize) -> bool {
        // SAFETY: a helper of XDP on this program's own context. Windows borrow the frame, so none is
        // left that the helper could invalidate.
        unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), -(bytes as i32)) == 0 }
    }

    #[inline(always)]
    fn pull(&mut self, bytes: usize) -> bool {
        // SAFETY: see `push`.
        unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), bytes as i32) == 0 }
    }

    #[inline(always)]
    fn trim(&mut self, length: usize) -> bool {
        let now = self.length();
        // SAFETY: see `push`.
        length <= now
            && unsafe {
                bpf_xdp_adjust_tail(self.context.as_ptr().cast(), -((now - length) as i32)) == 0
            }
    }
}

/// A packet of the stack on its way out, with its Ethernet header. Only encapsulation changes it, so neither
/// its front nor its end can be cut.
pub struct SkbFrame<'a> {
    context: &'a TcContext,
}

impl<'a> SkbFrame<'a> {
    /// The context's packet.
    #[inline(always)]
    pub const fn new(context: &'a TcContext) -> SkbFrame<'a> {
        SkbFrame { context }
    }
}

impl Frame for SkbFrame<'_> {
    /// The length of the whole packet, of which windows may not reach all.
    #[inline(always)]
    fn length(&self) -> usize {
        self.context.len() as usize
    }

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.context.data() + offset;
        if start + N > self.context.data_end() {
            return None;
        }
        // SAFETY: see `XdpFrame::window`.
        unsafe { core::hint::assert_unchecked(start != 0) };
        // SAFETY: see `XdpFrame::window`.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }

    #[inline(always)]
    fn read<const N: usize>(&mut self, offset: usize, into: &mut Aligned<N>) -> bool {
        // SAFETY: a helper on the context of this program; it writes the `N` bytes of `into`.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.context.skb.skb.cast(),
                offset as u32,
                into.0.as_mut_ptr().cast(),
                N as u32,
            )
        };
        result == 0
    }

    /// Makes room for an outer IP header. The kernel makes it behind the Ethernet header and not in front of it:
    /// no difference, because the caller writes both. The flags say that this is a tunnel, so that the interface
    /// computes checksums and cuts segments of the inner packet.
    #[inline(always)]
    fn push(&mut self, bytes: usize) -> bool {
        const UDP6: usize = ipv6::LENGTH + udp::LENGTH;
        const UDP4: usize = ipv4::LENGTH + udp::LENGTH;
        let outer = match bytes {
            ipv6::LENGTH => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
            UDP6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            UDP4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            _ => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        };
        self.context
            .adjust_room(bytes as i32, BPF_ADJ_ROOM_MAC, outer.into())
            .is_ok()
    }
}
