//! What the programs that run in the kernel share. The programs are this package's binaries.
//!
//! For the host this library is empty: the agent's build script depends on it so as to be run again when
//! the programs change.
#![no_std]

#[cfg(target_arch = "bpf")]
pub mod frame;
