//! Access to a frame's bytes: checked windows, and fields at constant places of a window.
//!
//! A window is one bounds check. Its fields are then read and written whole (two, four or eight bytes at
//! a time, at any alignment), which is what makes the fast path fast, and what the verifier understands.

/// A frame, from the first byte of its Ethernet header.
pub trait Frame {
    /// Bytes the frame has.
    fn length(&self) -> usize;

    /// The `N` bytes from `offset` on, if the frame has them.
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// Makes room for `bytes` more at the front; their content is undefined. `false`: there is no room,
    /// and the frame is as it was.
    fn push(&mut self, bytes: usize) -> bool;
}

/// A frame that can be made shorter.
pub trait Trim: Frame {
    /// Cuts the end off, so that `length` bytes are left. `false`: it is not as long, or its end cannot be
    /// moved, and the frame is as it was.
    fn trim(&mut self, length: usize) -> bool;
}

/// Whole fields at places known when compiling. Values are as they lie in memory: network order, read in
/// the machine's order.
pub trait Fields {
    /// The byte at `AT`.
    fn byte<const AT: usize>(&self) -> u8;
    /// Two bytes at `AT`.
    fn half<const AT: usize>(&self) -> u16;
    /// Four bytes at `AT`.
    fn word<const AT: usize>(&self) -> u32;
    /// Eight bytes at `AT`.
    fn long<const AT: usize>(&self) -> u64;
    /// Writes the byte at `AT`.
    fn set_byte<const AT: usize>(&mut self, value: u8);
    /// Writes two bytes at `AT`.
    fn set_half<const AT: usize>(&mut self, value: u16);
    /// Writes four bytes at `AT`.
    fn set_word<const AT: usize>(&mut self, value: u32);
    /// Writes eight bytes at `AT`.
    fn set_long<const AT: usize>(&mut self, value: u64);
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
    field!(byte, set_byte, u8);
    field!(half, set_half, u16);
    field!(word, set_word, u32);
    field!(long, set_long, u64);
}
