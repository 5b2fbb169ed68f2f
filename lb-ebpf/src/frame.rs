//! A frame that XDP handed to us.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use lb_common::frame::{Frame, Trim};

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
