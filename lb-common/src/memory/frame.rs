//! A frame in memory.

use std::{vec, vec::Vec};

use crate::frame::Frame;

/// Room in front of a frame, as XDP drivers give it.
pub const HEADROOM: usize = 256;

/// A frame in memory.
#[derive(Clone, Debug)]
pub struct MemFrame {
    bytes: Vec<u8>,
    start: usize,
}

impl MemFrame {
    /// A frame of these bytes, with [`HEADROOM`] in front.
    #[must_use]
    pub fn new(bytes: &[u8]) -> MemFrame {
        MemFrame::with_headroom(bytes, HEADROOM)
    }

    /// A frame of these bytes, with this much room in front.
    #[must_use]
    pub fn with_headroom(bytes: &[u8], headroom: usize) -> MemFrame {
        let mut room = vec![0; headroom];
        room.extend_from_slice(bytes);
        MemFrame {
            bytes: room,
            start: headroom,
        }
    }

    /// The frame as it is now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Frame for MemFrame {
    fn length(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.start.checked_add(offset)?;
        self.bytes
            .get_mut(start..start.checked_add(N)?)?
            .first_chunk_mut()
    }

    fn push(&mut self, bytes: usize) -> bool {
        match self.start.checked_sub(bytes) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn pull(&mut self, bytes: usize) -> bool {
        if bytes > self.length() {
            return false;
        }
        self.start += bytes;
        true
    }

    fn trim(&mut self, length: usize) -> bool {
        if length > self.length() {
            return false;
        }
        self.bytes.truncate(self.start + length);
        true
    }
}
