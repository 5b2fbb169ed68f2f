//! The decision over tables in memory.

mod echo;
mod floods;
mod flows;
mod forward;
mod hashes;
mod icmp_errors;
mod martians;
mod probes;
mod random;
mod resets;
mod sent;
mod signs;
mod stations;
mod testbed;
mod too_large;
mod unsent;
mod vips;
