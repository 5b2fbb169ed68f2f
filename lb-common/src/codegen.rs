//! What the compiler for BPF is told about the fast path. None of it changes what the code does.
//!
//! LLVM's BPF back end does not move blocks of code, and four registers survive a look-up. So what is meant for rare
//! packets easily costs all of them an instruction and a place on the stack.

/// Marks a branch that few packets take.
///
/// Where many branches end with constants (reasons), the back end puts each constant into a register before its branch,
/// so that every packet pays for all the ends that it does not come to. A branch with a block of its own does not have
/// that effect, and something in the block, here an empty instruction, keeps the optimizer from removing it.
#[inline(always)]
pub fn apart() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!("", options(nomem, nostack));
    }
}

/// The same value, from a branch that few packets take; see [`apart`].
#[inline(always)]
pub fn rare<T>(value: T) -> T {
    apart();
    value
}

/// Errors of branches that few packets take; see [`apart`].
pub trait OrRare<T> {
    /// Like [`Option::ok_or`].
    ///
    /// # Errors
    /// `error`, if there is no value.
    fn or_rare<E>(self, error: E) -> Result<T, E>;
}

impl<T> OrRare<T> for Option<T> {
    #[inline(always)]
    fn or_rare<E>(self, error: E) -> Result<T, E> {
        self.ok_or_else(|| rare(error))
    }
}

/// Makes the compiler read memory again behind this: what a loop reads each time needs no place on the stack.
#[inline(always)]
pub fn read_again() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!("", options(nostack));
    }
}

/// The same number, of which the compiler does not know where it comes from.
///
/// It keeps the number then, and not the several intermediate results that a rare use could be computed from.
#[inline(always)]
#[must_use]
pub fn opaque(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: a copy of a register to itself. Without an instruction there would be two records of lines for the
        // next one, which the kernel rejects.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
        }
        return value;
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
