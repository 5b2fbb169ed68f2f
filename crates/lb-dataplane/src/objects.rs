//! The kernel programs, as the build script made them.

/// The balancer, `lb-ebpf/src/bin/balancer.rs`.
pub static BALANCER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/balancer"));
/// The same balancer for tables of layout version 2.
pub static BALANCER_LAYOUT_2: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/balancer-layout-2"));
/// The program for a real's interface, `lb-ebpf/src/bin/decap.rs`.
pub static DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/decap"));
/// The program that measures others, `lb-ebpf/src/bin/bench.rs`; `cargo xtask bench` loads it.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench"));
