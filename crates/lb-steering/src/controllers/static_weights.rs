//! `static`: the operator's weights.

use super::{Basis, Context, Controller, Description};
use crate::{pool::Member, spec::Kind};

/// The controller.
#[derive(Debug, Default)]
pub struct StaticWeights;

impl Controller for StaticWeights {
    fn description(&self) -> Description {
        Description {
            kind: Kind::Static,
            help: "The operator's weights. Only health, drains and slow start change them; overload and scarce \
                   resources do not.",
            settings: &[],
        }
    }

    fn reacts_to_load(&self) -> bool {
        false
    }

    fn basis(&self, _context: &Context<'_>, _pool: &[Member<'_>]) -> Basis {
        Basis::Prescribed
    }
}
