//! `agent-check`: the operator's weights times what the agents on the reals ask for.

use lb_model::component::{Kind, NoSettings};

use super::{Basis, Context, Controller};
use crate::{
    decision::LimitedBy,
    observation::{Load, Sample},
    pool::Member,
};

/// The lowest multiple of its weight that an agent can ask for; below it, the real gets no new flows.
const MIN_MULTIPLE: f64 = 0.001;
/// The highest multiple.
const MAX_MULTIPLE: f64 = 10.0;

/// Its name, help and settings.
pub static KIND: Kind = Kind::of::<NoSettings>(
    "agent-check",
    "The operator's weight times the multiple that the real's agent asks for, at most 10. The last \
     value holds while the agent is silent, also when the balancer's agent restarts. Below 0.1 %, the \
     real gets no new flows.",
);

/// The controller.
#[derive(Debug, Default)]
pub struct AgentCheck;

impl Controller for AgentCheck {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn rejects(&self, member: &Member<'_>) -> Option<LimitedBy> {
        let multiple = reported_multiple(&member.observation.load);
        (multiple == Some(0.0)).then_some(LimitedBy::AgentCommand)
    }

    fn basis(&self, _context: &Context<'_>, _pool: &[Member<'_>]) -> Basis {
        Basis::Prescribed
    }

    fn worth(&self, pool: &[Member<'_>]) -> Vec<f64> {
        pool.iter()
            .map(|member| {
                // Until the agent has reported, the previous agent's multiple applies.
                let multiple = reported_multiple(&member.observation.load)
                    .unwrap_or(member.resumed_multiple());
                member.operator_weight() * multiple
            })
            .collect()
    }
}

/// The multiple of its weight that an agent last asked for, 0 if less than [`MIN_MULTIPLE`]; 1 if the value is not
/// plausible. `None` before its first report.
fn reported_multiple(load: &Load) -> Option<f64> {
    load.agent_weight?;
    let multiple =
        Sample::plausible(load.agent_weight).map_or(1.0, |sample| sample.value.min(MAX_MULTIPLE));
    Some(if multiple < MIN_MULTIPLE {
        0.0
    } else {
        multiple
    })
}
