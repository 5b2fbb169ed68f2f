//! What the benchmarks share: statistics, load arrivals and facts about the machine. The benchmarks themselves are in
//! `benches/`: `measure` (`cargo xtask bench`), `live`, `steering`, `scaling` and `settling`.

pub mod arrivals;
pub mod figures;
pub mod harm;
pub mod machine;
pub mod page;
pub mod process;
pub mod random;
pub mod scaling;
pub mod statistics;
pub mod walk;
