//! The checks, one file each.

pub mod agent;
pub mod attachment;
pub mod clock;
pub mod drops;
pub mod kernel;
pub mod mtu;
pub mod next_hops;
pub mod offloads;
pub mod real_decap;
pub mod real_mtu_probing;
pub mod real_reverse_path;
pub mod real_silence;
pub mod real_vip;
pub mod reals;
pub mod reverse_path;
pub mod stack;
