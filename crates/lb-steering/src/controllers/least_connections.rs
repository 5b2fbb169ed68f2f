//! `least-connections`: connections in proportion to the operator's weights.

use super::{Basis, Context, Controller, Description};
use crate::{pool::Member, spec::Kind};

/// The controller.
#[derive(Debug, Default)]
pub struct LeastConnections;

impl Controller for LeastConnections {
    fn description(&self) -> Description {
        Description {
            kind: Kind::LeastConnections,
            help: "The operator's weights are shares of the connections; new flows make up for connections that a \
                   real lacks. If connections live for less than a period, the operator's weights apply to new flows.",
            settings: &[],
        }
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
