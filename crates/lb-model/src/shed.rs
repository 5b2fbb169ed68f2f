//! How a VIP's connections are shed: who ends them.

use crate::component::Component;

/// The way that needs no setting: the data plane resets flows.
pub const RESET: &str = "reset";

crate::settings! {
    /// How connections are ended that are to be shed; goes with steering's `shed_rate`.
    pub struct Shed {
        ..way: "by" = "reset";
    }
}

impl Default for Shed {
    fn default() -> Self {
        Shed {
            way: Component::named(RESET),
        }
    }
}
