//! Shared load balancers: each is a VIP of the controller's agents, with the backends as its reals.

use std::net::IpAddr;

use lb_model::{
    intent::VipSpec,
    project::{BalancerProtocol, BalancerSpec, HostName},
    vip::{Protocol, VipKey},
};

use super::{
    Projects,
    view::{COMPLETE, SERVING},
};
use crate::{
    agents::{AgentState, Claim},
    registry::{BalancerRecord, SharedSettings},
};

/// The VIP that a load balancer is.
///
/// # Errors
/// Its settings were never checked.
fn claim(
    record: &BalancerRecord,
    spec: &BalancerSpec,
    shared: &SharedSettings,
) -> Result<Claim, String> {
    let address = record.addresses.nth(1).ok_or("it has no address")?;
    let protocol = match spec.protocol {
        BalancerProtocol::Udp => Protocol::Udp,
        BalancerProtocol::Tcp | BalancerProtocol::Http => Protocol::Tcp,
    };
    let vip = VipKey::new(address, spec.listen_port(), protocol);
    let address_of = |host: &HostName| match host {
        HostName::Address(address) => Some(*address),
        HostName::Name(_) => None,
    };
    let reals = spec.backends.iter();
    Ok(Claim {
        vip,
        spec: VipSpec {
            forward: shared.forward,
            check: spec.check.clone(),
            description: Some(format!("load balancer {} ({})", record.name, record.id)),
            ..VipSpec::default()
        },
        reals: reals
            .filter_map(|backend| Some((address_of(&backend.address)?, backend.weight)))
            .collect(),
    })
}

/// What agents say of a VIP.
#[derive(Debug, Default)]
struct Told {
    /// Agents that have it.
    agents: usize,
    /// Agents that there are.
    of: usize,
    /// Reals that are up at the agent at which the fewest are.
    up: Option<usize>,
    /// What is wrong, at the first agent at which something is.
    trouble: Option<String>,
}

impl Told {
    fn hear(&mut self, endpoint: &str, state: &AgentState, wanted: &Claim) {
        self.of += 1;
        let mut trouble = state.trouble.clone();
        if let Some(reals) = state.vips.get(&wanted.vip) {
            self.agents += 1;
            let is_up = |address: &&IpAddr| reals.get(*address) == Some(&true);
            let up = wanted.reals.keys().filter(is_up).count();
            self.up = Some(self.up.map_or(up, |before| before.min(up)));
            if !wanted.reals.keys().eq(reals.keys()) {
                trouble = trouble
                    .or_else(|| Some(format!("the agent at {endpoint} has other backends yet")));
            }
        } else {
            trouble = trouble.or_else(|| Some(format!("the agent at {endpoint} has it not yet")));
        }
        let refused = state.refused.iter();
        let mut refused = refused.filter(|((vip, _), _)| *vip == wanted.vip);
        if let Some((_, text)) = refused.next() {
            trouble = Some(format!("the agent at {endpoint}: {text}"));
        }
        self.trouble = self.trouble.take().or(trouble);
    }
}

/// Looks after a shared load balancer.
pub(super) fn keep(projects: &Projects, record: &BalancerRecord, spec: &BalancerSpec) {
    let agents = projects.0.controller.agents();
    let shared = projects.0.means.making.shared.as_ref();
    let wanted = shared
        .ok_or_else(|| "this controller has no `[shared]` in its configuration file".to_owned())
        .and_then(|shared| claim(record, spec, shared));
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) => {
            projects.note(record, |seen| seen.state(COMPLETE, false, why));
            return;
        }
    };
    agents.claim(record.id, Some(wanted.clone()));
    let mut told = Told::default();
    for (endpoint, state) in agents.states() {
        told.hear(&endpoint.to_string(), &state, &wanted);
    }
    let Told { agents, of, up, .. } = told;
    let all = wanted.reals.len();
    let up = up.unwrap_or_default();
    let is_serving = up > 0;
    let why_serving = match (of, all, agents) {
        (0, ..) => {
            "this controller has no agents: its operator gives it some with `agents`".to_owned()
        }
        (_, 0, _) => "it has no backends".to_owned(),
        (_, _, 0) => told.trouble.clone().unwrap_or_default(),
        _ => format!("{up} of {all} backends are up, at {agents} of {of} agents"),
    };
    let is_complete = told.trouble.is_none() && of > 0;
    let why_complete = match told.trouble {
        Some(trouble) => trouble,
        None if of == 0 => why_serving.clone(),
        None => format!("all {of} agents have it"),
    };
    projects.note(record, |seen| {
        seen.vip = is_serving.then_some(wanted.vip.address);
        seen.state(SERVING, is_serving, why_serving);
        seen.state(COMPLETE, is_complete, why_complete);
        if is_complete {
            seen.observed_generation = record.generation;
        }
    });
}

/// Gives up the VIP of a load balancer. Agents that cannot be reached now remove it when they can.
pub(super) fn give_up(projects: &Projects, id: u64) {
    projects.0.controller.agents().claim(id, None);
}
