//! The rules, one by one, on a controller that is stepped by hand.

mod health;
mod pool;
mod random;
mod rules;
