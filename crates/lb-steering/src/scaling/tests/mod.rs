//! Each rule on a pool that is stepped by hand.

mod drains;
mod faults;
mod floors;
mod growth;
mod pool;
mod properties;
mod reductions;
mod relaunches;
