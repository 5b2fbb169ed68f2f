//! The decision over tables in memory.

mod echo;
mod floods;
mod flow_limits;
mod flows;
mod forward;
mod hash_modes;
mod hashes;
mod icmp_answers;
mod icmp_errors;
mod martians;
mod nat;
mod probes;
mod random;
mod resets;
mod sanity;
mod sctp;
mod sent;
mod server_ids;
mod signs;
mod source_rules;
mod stations;
mod testbed;
mod tunnel_ends;
mod unsent;
mod vips;
mod wide_vips;
