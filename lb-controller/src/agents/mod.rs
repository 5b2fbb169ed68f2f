//! The agents whose VIPs the instances serve: each has a task that makes its reals what the pools say, and reads what it
//! knows of them.
//!
//! The controller owns the reals that it adds (`controller:NAME`) and touches no other. Its silence is not the agents' death:
//! they go on with what they have.

mod client;
mod reconcile;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lb_model::{intent::VipSpec, pool::PoolName, vip::VipKey};
pub use lb_proto::endpoint::Endpoint;
use lb_serve::vital::Registrar;
use tokio::sync::watch;

/// See [`lb_serve::vital`].
pub const RECONCILER: &str = "the task that keeps an agent's reals as pools want them";
/// How long an agent may take to say which reals it has, when a controller begins.
const ASK: Duration = Duration::from_secs(3);

/// What a real is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets new flows.
    Serving,
    /// It keeps the flows that it has.
    Drained,
    /// These are ended at the VIP's `shed_rate`.
    Evacuated,
}

impl Standing {
    /// Whether it gets no new flows.
    #[must_use]
    pub const fn is_drained(self) -> bool {
        !matches!(self, Standing::Serving)
    }
}

/// The reals that pools want, by VIP and address.
pub type Wanted = BTreeMap<(VipKey, IpAddr), Standing>;

/// A VIP of the controller's own, with its reals.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The VIP.
    pub vip: VipKey,
    /// Its settings.
    pub spec: VipSpec,
    /// The weights of its reals.
    pub reals: BTreeMap<IpAddr, u32>,
}

/// A real that is wanted, or is there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct WantedReal {
    standing: Standing,
    /// Of a VIP of the controller's own; the operator has those of others.
    weight: Option<u32>,
}

impl WantedReal {
    /// Whether one that is there is as it is wanted here.
    fn is_as(self, wanted: WantedReal) -> bool {
        self.standing == wanted.standing
            && wanted
                .weight
                .is_none_or(|weight| self.weight == Some(weight))
    }
}

/// What all pools and load balancers want.
#[derive(Clone, Debug, Default, PartialEq)]
struct AllWanted {
    reals: BTreeMap<(VipKey, IpAddr), WantedReal>,
    vips: BTreeMap<VipKey, VipSpec>,
    /// Whether everyone has said what it wants, so that other reals are nobody's.
    is_complete: bool,
}

/// What an agent knows of a real.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RealFigures {
    /// Its flows now.
    pub flows: Option<f64>,
    /// What it carries at utilisation 1, in flows per second or connections.
    pub capacity: Option<f64>,
    /// Utilisation of its own limit.
    pub utilisation: Option<f64>,
    /// Connections, as a source of load reports them.
    pub connections: Option<f64>,
    /// Used fraction of its memory.
    pub memory: Option<f64>,
    /// Used fraction of its network bandwidth.
    pub network: Option<f64>,
}

/// What an agent knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentState {
    /// Why it cannot be reached, if it cannot.
    pub trouble: Option<String>,
    /// What it refuses, in words: a VIP that it does not have (without an address), or a real.
    pub refused: BTreeMap<(VipKey, Option<IpAddr>), String>,
    /// The controller's VIPs: which of their reals are up.
    pub vips: BTreeMap<VipKey, BTreeMap<IpAddr, bool>>,
    /// The controller's reals.
    pub reals: HashMap<(VipKey, IpAddr), RealFigures>,
    /// New flows of each VIP, since the agent started counting.
    pub new_flows: HashMap<VipKey, u64>,
    /// Connections a second that each VIP may end on reals over their share.
    pub shed_rates: HashMap<VipKey, f64>,
}

/// All agents.
#[derive(Clone, Debug)]
pub struct Agents(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pools: Mutex<Pools>,
    wanted: watch::Sender<Arc<AllWanted>>,
    states: Vec<(Endpoint, watch::Receiver<Arc<AgentState>>)>,
}

#[derive(Debug, Default)]
struct Pools {
    wanted: HashMap<PoolName, Wanted>,
    /// Pools that have not said yet what they want, since the start of this process.
    awaited: Vec<PoolName>,
    /// The VIPs of load balancers, by id.
    claims: BTreeMap<u64, Claim>,
    /// Load balancers that have not said yet what they want.
    awaited_claims: Vec<u64>,
}

/// The owner of the reals of the controller with this name.
fn owner(name: &str) -> String {
    format!("controller:{name}")
}

/// Refuses to begin with an empty store where an agent has reals of a controller of this name: it would remove them. An agent that
/// does not answer soon is asked again later, before anything of it is changed.
///
/// # Errors
/// What is there, and what to do.
pub async fn refuse_strangers(endpoints: &[Endpoint], name: &str) -> Result<(), String> {
    let owner = owner(name);
    for endpoint in endpoints {
        let mut client = client::client(endpoint);
        let listed = tokio::time::timeout(ASK, reconcile::list(&mut client, &owner)).await;
        match listed {
            Ok(Ok(known)) if !known.is_empty() => {
                let text = reconcile::strangers(&owner, known.reals.len());
                return Err(format!("the agent at {endpoint}: {text}"));
            }
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::warn!("the agent at {endpoint}: {}", status.message()),
            Err(_) => tracing::warn!("the agent at {endpoint} does not answer"),
        }
    }
    Ok(())
}

impl Agents {
    /// Starts the tasks. No real and no VIP is removed before each of `pools` and of the load balancers with these ids has said
    /// what it wants. A controller that `is_new` touches no
    /// agent that has reals of its name.
    #[must_use]
    pub fn start(
        endpoints: Vec<Endpoint>,
        name: &str,
        is_new: bool,
        pools: Vec<PoolName>,
        balancers: Vec<u64>,
        parts: &Registrar,
    ) -> Self {
        let wanted = watch::Sender::new(Arc::default());
        let states = endpoints
            .into_iter()
            .map(|endpoint| {
                let (sender, state) = watch::channel(Arc::default());
                let task = reconcile::Reconciler::new(
                    endpoint.clone(),
                    owner(name),
                    is_new,
                    wanted.subscribe(),
                    sender,
                );
                parts.spawn(RECONCILER, endpoint.to_string(), task.run());
                (endpoint, state)
            })
            .collect();
        let agents = Agents(Arc::new(Inner {
            pools: Mutex::new(Pools {
                awaited: pools,
                awaited_claims: balancers,
                ..Pools::default()
            }),
            wanted,
            states,
        }));
        agents.publish();
        agents
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.states.is_empty()
    }

    /// Says which reals a pool wants.
    pub fn set(&self, pool: &PoolName, wanted: Wanted) {
        {
            let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
            let is_same = match pools.wanted.get(pool) {
                Some(before) => *before == wanted,
                None => wanted.is_empty(),
            };
            // It is said again each second.
            if is_same && !pools.awaited.contains(pool) {
                return;
            }
            pools.awaited.retain(|one| one != pool);
            if wanted.is_empty() {
                pools.wanted.remove(pool);
            } else {
                pools.wanted.insert(pool.clone(), wanted);
            }
        }
        self.publish();
    }

    /// Says which VIP a load balancer wants, if it wants one.
    pub fn claim(&self, balancer: u64, claim: Option<Claim>) {
        {
            let mut pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
            // It is said again each second.
            let is_awaited = pools.awaited_claims.contains(&balancer);
            if !is_awaited && pools.claims.get(&balancer) == claim.as_ref() {
                return;
            }
            pools.awaited_claims.retain(|one| *one != balancer);
            match claim {
                Some(claim) => drop(pools.claims.insert(balancer, claim)),
                None => drop(pools.claims.remove(&balancer)),
            }
        }
        self.publish();
    }

    /// The load balancers that want a VIP.
    pub fn claimants(&self) -> Vec<u64> {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.claims.keys().copied().collect()
    }

    /// What each agent knows, as it changes.
    pub fn followers(&self) -> Vec<watch::Receiver<Arc<AgentState>>> {
        let states = self.0.states.iter();
        states.map(|(_, state)| state.clone()).collect()
    }

    fn publish(&self) {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = AllWanted {
            is_complete: pools.awaited.is_empty() && pools.awaited_claims.is_empty(),
            ..AllWanted::default()
        };
        for (real, standing) in pools.wanted.values().flatten() {
            let wanted = WantedReal {
                standing: *standing,
                weight: None,
            };
            all.reals.insert(*real, wanted);
        }
        for claim in pools.claims.values() {
            all.vips.insert(claim.vip, claim.spec.clone());
            for (address, weight) in &claim.reals {
                let wanted = WantedReal {
                    standing: Standing::Serving,
                    weight: Some(*weight),
                };
                all.reals.insert((claim.vip, *address), wanted);
            }
        }
        self.0.wanted.send_if_modified(|before| {
            let differs = **before != all;
            if differs {
                *before = Arc::new(all);
            }
            differs
        });
    }

    /// What is wrong with these VIPs of a pool, and its reals at these addresses, by a key of each trouble.
    pub fn troubles(
        &self,
        vips: &[VipKey],
        is_own: impl Fn(IpAddr) -> bool,
    ) -> BTreeMap<String, String> {
        let mut troubles = BTreeMap::new();
        for (endpoint, state) in self.states() {
            if let Some(trouble) = &state.trouble {
                troubles.insert(format!("agent {endpoint}"), trouble.clone());
                continue;
            }
            for vip in vips {
                let refused = |((of, real), text): (&(VipKey, Option<IpAddr>), &String)| {
                    let is_own = of == vip && real.is_none_or(&is_own);
                    is_own.then(|| text.clone())
                };
                let refused: Vec<String> = state.refused.iter().filter_map(refused).collect();
                let text = match &refused[..] {
                    [] => continue,
                    [only] => format!("the agent at {endpoint}: {only}"),
                    [first, rest @ ..] => format!(
                        "the agent at {endpoint}: {first}; and {} more reals of {vip}",
                        rest.len()
                    ),
                };
                troubles.insert(format!("refused {endpoint} {vip}"), text);
            }
        }
        troubles
    }

    /// What each agent knows.
    pub fn states(&self) -> Vec<(&Endpoint, Arc<AgentState>)> {
        self.0
            .states
            .iter()
            .map(|(endpoint, state)| (endpoint, Arc::clone(&state.borrow())))
            .collect()
    }
}
