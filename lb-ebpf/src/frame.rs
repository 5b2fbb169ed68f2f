//! A frame that XDP handed to us, or that leaves by tc.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::{TcContext, XdpContext},
};
use lb_common::{
    frame::{Frame, Trim},
    parse::IP6,
};

/// The frame of an XDP program's context.
pub struct XdpFrame<'a> {
    context: &'a XdpContext,
}

impl<'a> XdpFrame<'a> {
    /// The context's frame.
    #[inline(always)]
    pub const fn new(context: &'a XdpContext) -> XdpFrame<'a> {
        XdpFrame { context }
    }

    /// Takes `bytes` off the front. `false`: the frame is too short, and as it was.
    #[inline(always)]
    pub fn pull(&mut self, bytes: usize) -> bool {
        // SAFETY: a helper of XDP on this program's own context. Windows borrow the frame, so none is
        // left that the helper could invalidate.
        unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), bytes as i32) == 0 }
    }
}

impl Frame for XdpFrame<'_> {
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
    fn push(&mut self, bytes: usize) -> bool {
        // SAFETY: see `pull`.
        unsafe { bpf_xdp_adjust_head(self.context.as_ptr().cast(), -(bytes as i32)) == 0 }
    }
}

impl Trim for XdpFrame<'_> {
    #[inline(always)]
    fn trim(&mut self, length: usize) -> bool {
        let now = self.length();
        // SAFETY: see `pull`.
        length <= now
            && unsafe {
                bpf_xdp_adjust_tail(self.context.as_ptr().cast(), -((now - length) as i32)) == 0
            }
    }
}

/// The stack's packet on its way out, with its Ethernet header.
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
    /// The whole packet's; its data need not lie where windows reach.
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

    /// Makes room for an outer IP header. The kernel makes it behind the Ethernet header and not in front of it,
    /// which is the same to whoever writes both; it is told that this is a tunnel, so that checksums and segments
    /// that the interface is to make are made of the inner packet.
    #[inline(always)]
    fn push(&mut self, bytes: usize) -> bool {
        let outer = if bytes == IP6 {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
        } else {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        };
        self.context
            .adjust_room(bytes as i32, BPF_ADJ_ROOM_MAC, outer.into())
            .is_ok()
    }
}
