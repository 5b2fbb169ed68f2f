//! Controllers: the laws that turn worth and measurements into shares of new flows.
//!
//! A controller is one file in this folder, with its law, its help text and the settings that only it uses. Adding one
//! takes that file, its module and its line in `controllers!` below.

mod agent_check;
mod capacity;
mod latency;
mod least_connections;
mod proportional;
mod static_weights;

use std::{fmt, time::Duration};

use lb_model::component::{Component, Kind, Registry};
use lb_model::vip::RealId;

use super::{
    Steering,
    decision::LimitedBy,
    life::Life,
    pool::{Member, RealState},
};

/// The dead band is at least this many standard deviations of a real's capacity estimate.
const DEAD_BAND_DEVIATIONS: f64 = 2.5;

/// Lists the controllers, in the order of reference pages.
macro_rules! controllers {
    ($($module:ident :: $controller:ident),* $(,)?) => {
        /// The controllers, by the setting `controller`.
        pub static REGISTRY: Registry = Registry {
            family: "controller",
            key: "controller",
            kinds: &[$(&$module::KIND),*],
        };

        /// Returns one of each controller.
        pub fn all() -> Vec<Box<dyn Controller>> {
            vec![$(Box::<$module::$controller>::default()),*]
        }
    };
}

controllers! {
    capacity::Capacity,
    static_weights::StaticWeights,
    agent_check::AgentCheck,
    proportional::Proportional,
    least_connections::LeastConnections,
    latency::Latency,
}

/// Returns the controller of this kind, or the default one if none is registered.
pub fn find<'a>(controllers: &'a [Box<dyn Controller>], kind: &str) -> &'a dyn Controller {
    controllers
        .iter()
        .find(|controller| controller.kind().name == kind)
        .unwrap_or(&controllers[0])
        .as_ref()
}

/// Gives the controller that is selected its own settings.
pub fn configure(controllers: &mut [Box<dyn Controller>], selected: &Component) {
    for controller in controllers {
        if controller.kind().name == selected.kind {
            controller.configure(selected);
        }
    }
}

/// What a controller knows of the VIP.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub settings: &'a Steering,
    pub now: Duration,
    /// Life of the VIP's connections.
    pub life: &'a Life,
    /// Whether load and capacity are counted in connections, not in new flows a second.
    pub counts_connections: bool,
}

impl Context<'_> {
    /// Whether connections live so long that new flows alone are slow to even out the load.
    pub fn is_long_lived(&self) -> bool {
        self.life.is_long(self.settings)
    }
}

/// What a controller's shares rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The operator or the agents prescribe weights: the worth applies at once and exactly.
    Prescribed,
    /// Nothing has been measured: the worth applies at once, unless weights of a previous agent are held.
    Unmeasured,
    /// Measurements: weights approach the allocated shares within the limits on movement.
    Measured,
}

/// A law that decides the shares of new flows. The defaults suit most controllers.
pub trait Controller: fmt::Debug + Send + Sync {
    /// Its name, help and settings.
    fn kind(&self) -> &'static Kind;

    /// Takes the settings that only this controller has. They have been checked.
    fn configure(&mut self, _own: &Component) {}

    /// Learns at the end of a period, also while another controller is selected. `elapsed` is the time since the
    /// last period.
    fn observe(
        &mut self,
        _context: &Context<'_>,
        _elapsed: Option<Duration>,
        _pool: &[Member<'_>],
    ) {
    }

    /// Forgets a real that is no longer observed.
    fn forget(&mut self, _address: RealId) {}

    /// Returns a reason for which this real may have no new flows.
    fn rejects(&self, _member: &Member<'_>) -> Option<LimitedBy> {
        None
    }

    /// Whether overload and scarce resources reduce shares.
    fn reacts_to_load(&self) -> bool {
        true
    }

    /// What the shares rest on.
    fn basis(&self, context: &Context<'_>, pool: &[Member<'_>]) -> Basis;

    /// Relative worth of each real of the pool, in proportion to which it serves; the operator's weights unless
    /// something better is known.
    fn worth(&self, pool: &[Member<'_>]) -> Vec<f64> {
        pool.iter().map(Member::operator_weight).collect()
    }

    /// The share of each eligible real in steady state, once connections are balanced. Asked if the basis is
    /// [`Basis::Measured`]. `worth_shares` and `operator_shares` are the shares by worth and by the operator's
    /// weight, in the order of `eligible`.
    fn allocate(
        &self,
        _context: &Context<'_>,
        _eligible: &[&Member<'_>],
        worth_shares: Vec<f64>,
        _operator_shares: &[f64],
    ) -> Vec<f64> {
        worth_shares
    }

    /// Whether new flows make up for differences in connections.
    fn rebalances(&self, _context: &Context<'_>) -> bool {
        false
    }

    /// Relative standard deviation of a real's steady share.
    fn uncertainty(&self, _settings: &Steering, _state: &RealState) -> f64 {
        0.0
    }

    /// The factor by which a share may change per period.
    fn max_step(&self, settings: &Steering) -> f64 {
        settings.step
    }

    /// The fraction of itself by which a real's share may be off before it moves.
    fn dead_band(&self, settings: &Steering, state: &RealState) -> f64 {
        settings
            .deadband
            .max(DEAD_BAND_DEVIATIONS * state.estimate.uncertainty(settings))
    }

    /// Whether the controller suits the VIP's connections; if not, its basis is not [`Basis::Measured`].
    fn suits(&self, _context: &Context<'_>) -> bool {
        true
    }

    /// How old the last reading is on which this real's share rests, once it is stale.
    fn stale_for(&self, _context: &Context<'_>, _state: &RealState) -> Option<Duration> {
        None
    }
}
