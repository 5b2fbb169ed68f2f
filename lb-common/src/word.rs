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

    /// Takes one off, so that none is lost when several do: below zero it wraps.
    #[inline(always)]
    pub fn take_one(&self) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer is that of a live, aligned word, which the instruction adds to in one step. The
        // target has no atomics that the library would offer.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({word} + 0) += {less}",
                word = in(reg) self.0.as_ptr(),
                less = in(reg) u64::MAX,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.fetch_sub(1, Relaxed);
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
