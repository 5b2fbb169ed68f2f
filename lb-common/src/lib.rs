//! The code and the records that the kernel programs and user space share.
//!
//! The records of the tables, packet parsing and the forwarding decision live here once. In the kernel
//! the tables are BPF maps; in user space they are memory (feature `std`), so the code that runs in XDP
//! is tested, fuzzed and simulated without a kernel.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod aes;
pub mod answer;
pub mod answerable;
pub mod capture;
pub mod checksum;
pub mod choose;
pub mod classify;
pub mod codegen;
pub mod decap;
pub mod decide;
pub mod echo;
pub mod error_limits;
pub mod flow_limits;
pub mod flow_table;
pub mod forward;
pub mod fragments;
pub mod frame;
pub mod hash;
pub mod headers;
pub mod icmp_answer;
pub mod icmp_error;
pub mod ip;
pub mod katran;
pub mod limits;
pub mod lookup;
#[cfg(any(test, feature = "std"))]
pub mod memory;
pub mod nat;
pub mod outcome;
pub mod parse;
pub mod probe;
pub mod reason;
pub mod reset;
pub mod sanity;
pub mod server_ids;
pub mod shared;
pub mod shed;
pub mod signs;
pub mod simulated;
pub mod state;
pub mod station;
pub mod tables;
pub mod tunnel_end;
pub mod vip_table;
pub mod wide_vips;

#[cfg(test)]
mod tests;
