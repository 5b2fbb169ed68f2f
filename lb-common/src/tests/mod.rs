//! The decision over tables in memory.

mod echo;
mod floods;
mod flows;
mod forward;
mod hashes;
mod probes;
mod random;
mod resets;
mod sent;
mod testbed;
mod unsent;
mod vips;
