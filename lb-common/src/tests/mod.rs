//! The decision over tables in memory.

mod echo;
mod flows;
mod hashes;
mod lab;
mod random;
mod sent;
mod unsent;
mod vips;
