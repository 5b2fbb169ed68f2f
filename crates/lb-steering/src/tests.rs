//! Each rule on a [`super::VipSteering`] that is stepped by hand.

mod caution;
mod controllers;
mod health;
mod learning;
mod movement;
pub(super) mod pool;
mod random;
mod rules;
mod shedding;
mod sources;
