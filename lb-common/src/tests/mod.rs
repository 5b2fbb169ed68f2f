//! The decision over tables in memory.

mod echo;
mod flows;
mod hashes;
mod lab;
mod probes;
mod random;
mod resets;
mod sent;
mod unsent;
mod vips;
