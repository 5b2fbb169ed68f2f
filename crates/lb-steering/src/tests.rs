//! The rules, one by one, on a controller that is stepped by hand.

mod health;
mod learning;
mod moving;
pub(super) mod pool;
mod random;
mod rules;
