//! Access to a frame's bytes: checked windows, and fields at constant places of a window.
//!
//! A window is one bounds check. Its fields are then read and written whole (two, four or eight bytes at
//! a time, at any alignment), which is what makes the fast path fast, and what the verifier understands.

/// Bytes on the stack that are read and written in words: the verifier demands the words' alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Aligned<const N: usize>(pub [u8; N]);

/// A frame, from the first byte of its Ethernet header.
///
/// All programs and the tests in memory work on frames through this trait. An operation that a kind of
/// frame does not offer answers like one that was refused: `false`, and the frame is unchanged.
pub trait Frame {
    /// Bytes of the frame.
    fn length(&self) -> usize;

    /// The `N` bytes from `offset` on; `None` if the frame is shorter.
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// Copies the `N` bytes from `offset` on. `false`: the frame is shorter. Works for bytes that a window
    /// does not reach, which a packet of the host's stack may have.
    #[inline(always)]
    fn read<const N: usize>(&mut self, offset: usize, into: &mut Aligned<N>) -> bool {
        match self.window::<N>(offset) {
            Some(window) => {
                into.0 = *window;
                true
            }
            None => false,
        }
    }

    /// The context of the kernel program whose frame this is, for functions of the program's own; else null.
    #[inline(always)]
    fn context(&self) -> *mut core::ffi::c_void {
        core::ptr::null_mut()
    }

    /// Adds `bytes` at the front; their content is undefined. `false`: there is no room, and the frame is
    /// unchanged.
    fn push(&mut self, bytes: usize) -> bool;

    /// Removes `bytes` at the front. `false`: the start cannot be moved, and the frame is unchanged.
    #[inline(always)]
    fn pull(&mut self, _bytes: usize) -> bool {
        false
    }

    /// Cuts the end off, so that `length` bytes are left. `false`: the frame is shorter or its end cannot be
    /// moved, and it is unchanged.
    #[inline(always)]
    fn trim(&mut self, _length: usize) -> bool {
        false
    }
}

/// Whole fields at places known at compile time. Values are as they lie in memory: network order, read in
/// the machine's order.
pub trait Fields {
    /// The byte at `AT`.
    fn u8_at<const AT: usize>(&self) -> u8;
    /// Two bytes at `AT`.
    fn u16_at<const AT: usize>(&self) -> u16;
    /// Four bytes at `AT`.
    fn u32_at<const AT: usize>(&self) -> u32;
    /// Eight bytes at `AT`.
    fn u64_at<const AT: usize>(&self) -> u64;
    /// Writes the byte at `AT`.
    fn set_u8_at<const AT: usize>(&mut self, value: u8);
    /// Writes two bytes at `AT`.
    fn set_u16_at<const AT: usize>(&mut self, value: u16);
    /// Writes four bytes at `AT`.
    fn set_u32_at<const AT: usize>(&mut self, value: u32);
    /// Writes eight bytes at `AT`.
    fn set_u64_at<const AT: usize>(&mut self, value: u64);
}

macro_rules! field {
    ($get:ident, $set:ident, $type:ty) => {
        #[inline(always)]
        fn $get<const AT: usize>(&self) -> $type {
            const {
                assert!(
                    AT + size_of::<$type>() <= N,
                    "a field outside of its window"
                )
            };
            // SAFETY: the field lies within the array, as asserted; any bytes are a value of this type.
            unsafe { self.as_ptr().add(AT).cast::<$type>().read_unaligned() }
        }

        #[inline(always)]
        fn $set<const AT: usize>(&mut self, value: $type) {
            const {
                assert!(
                    AT + size_of::<$type>() <= N,
                    "a field outside of its window"
                )
            };
            // SAFETY: the field lies within the array, as asserted.
            unsafe {
                self.as_mut_ptr()
                    .add(AT)
                    .cast::<$type>()
                    .write_unaligned(value)
            }
        }
    };
}

impl<const N: usize> Fields for [u8; N] {
    field!(u8_at, set_u8_at, u8);
    field!(u16_at, set_u16_at, u16);
    field!(u32_at, set_u32_at, u32);
    field!(u64_at, set_u64_at, u64);
}
