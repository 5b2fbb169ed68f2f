//! A number that CPUs and the agent share without locks.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{Relaxed, Release};

/// Eight bytes that are read and written whole, in no particular order with others.
///
/// The BPF back end of LLVM 22 cannot select relaxed atomic loads and stores for the default CPU; there a
/// volatile access of eight aligned bytes does the same.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct SharedU64(AtomicU64);

impl SharedU64 {
    /// A word with this value.
    #[must_use]
    pub const fn new(value: u64) -> SharedU64 {
        SharedU64(AtomicU64::new(value))
    }

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

    /// Subtracts one. No subtraction is lost when several CPUs do this at once; below zero it wraps.
    #[inline(always)]
    pub fn decrement(&self) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: the pointer is that of a live, aligned word, to which the instruction adds in one step. The
        // library offers no atomics for this target.
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

    /// Adds a number. No addition is lost when several CPUs do this at once; it wraps.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: see `decrement`.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({word} + 0) += {more}",
                word = in(reg) self.0.as_ptr(),
                more = in(reg) more,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.fetch_add(more, Relaxed);
    }

    /// Adds one. No addition is lost when several CPUs do this at once.
    #[inline(always)]
    pub fn increment(&self) {
        #[cfg(target_arch = "bpf")]
        // SAFETY: see `decrement`.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({word} + 0) += {more}",
                word = in(reg) self.0.as_ptr(),
                more = in(reg) 1_u64,
            );
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.fetch_add(1, Relaxed);
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

    /// Writes a value. A CPU that reads it also finds everything that was written before it.
    #[cfg(not(target_arch = "bpf"))]
    pub fn publish(&self, value: u64) {
        self.0.store(value, Release);
    }
}

/// 1 if a number is not 0, else 0.
///
/// In BPF a comparison is a branch, and after it the kernel's verifier knows the result and follows each way by
/// itself. Arithmetic leaves one way, with a result of 0 or 1.
#[must_use]
#[inline(always)]
pub fn is_set(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut bit = value;
        // SAFETY: arithmetic on two registers. The compiler would make a comparison of the same expression.
        unsafe {
            core::arch::asm!(
                "{other} = {bit}",
                "{other} = -{other}",
                "{bit} |= {other}",
                "{bit} >>= 63",
                bit = inout(reg) bit,
                other = out(reg) _,
                options(pure, nomem, nostack),
            );
        }
        return bit;
    }
    #[cfg(not(target_arch = "bpf"))]
    u64::from(value != 0)
}
