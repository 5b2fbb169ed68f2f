//! `least-connections`: connections in proportion to the operator's weights.

use lb_model::component::{Kind, NoSettings};

use super::{Basis, Context, Controller};
use crate::pool::Member;

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<NoSettings>(
    "least-connections",
    "The operator's weights are shares of the connections; new flows make up for connections that a \
     real lacks. If connections live for less than a period, the operator's weights apply to new flows.",
);

/// The controller.
#[derive(Debug, Default)]
pub struct LeastConnections;

impl Controller for LeastConnections {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn basis(&self, context: &Context<'_>, _pool: &[Member<'_>]) -> Basis {
        if context.counts_connections {
            Basis::Measured
        } else {
            Basis::Unmeasured
        }
    }

    fn rebalances(&self, _context: &Context<'_>) -> bool {
        true
    }
}
