//! `static`: the operator's weights.

use lb_model::component::{Kind, NoSettings};

use super::{Basis, Context, Controller};
use crate::pool::Member;

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<NoSettings>(
    "static",
    "The operator's weights. Only health, drains and slow start change them; overload and scarce \
     resources do not.",
);

/// The controller.
#[derive(Debug, Default)]
pub struct StaticWeights;

impl Controller for StaticWeights {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn reacts_to_load(&self) -> bool {
        false
    }

    fn basis(&self, _context: &Context<'_>, _pool: &[Member<'_>]) -> Basis {
        Basis::Prescribed
    }
}
