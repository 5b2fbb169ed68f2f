//! What the benchmarks share: statistics, load arrivals and facts about the machine. The benchmarks themselves are in
//! `benches/`: `measure` (`cargo xtask bench`), `live`, `steering` and `settling`.

pub mod arrivals;
pub mod figures;
pub mod harm;
pub mod machine;
pub mod process;
pub mod random;
pub mod scaling;
pub mod statistics;
pub mod walk;
