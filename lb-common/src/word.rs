//! A word that CPUs and the agent share without locks.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{Relaxed, Release};

/// Eight bytes that are read and written whole, in no particular order with other words.
///
/// The BPF back end of LLVM 22 cannot select relaxed atomic loads and stores for the default CPU; there a
/// volatile access of an aligned word does the same.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// The value.
    #[must_use]
    #[inline(always)]
    pub fn load(&self) -> u64 {
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer is that of a live, aligned word; an eight-byte access is one instruction.
        return unsafe { self.0.as_ptr().read_volatile() };
        #[cfg(not(target_arch = "bpf"))]
        self.0.load(Relaxed)
    }

    /// Writes a value.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: see `load`.
        unsafe {
            self.0.as_ptr().write_volatile(value);
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.store(value, Relaxed);
    }

    /// Writes a value; whoever reads it finds what was written before it, too.
    #[cfg(not(target_arch = "bpf"))]
    pub fn publish(&self, value: u64) {
        self.0.store(value, Release);
    }
}
