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

use lb_model::{pool::PoolName, vip::VipKey};
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

/// What all pools want.
#[derive(Clone, Debug, Default, PartialEq)]
struct AllWanted {
    reals: Wanted,
    /// Whether every pool has said what it wants, so that other reals are nobody's.
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
            Ok(Ok((reals, _))) if !reals.is_empty() => {
                let text = reconcile::strangers(&owner, reals.len());
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
    /// Starts the tasks. No real is removed before each of `pools` has said what it wants. A controller that `is_new` touches no
    /// agent that has reals of its name.
    #[must_use]
    pub fn start(
        endpoints: Vec<Endpoint>,
        name: &str,
        is_new: bool,
        pools: Vec<PoolName>,
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
                wanted: HashMap::new(),
                awaited: pools,
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
            pools.awaited.retain(|one| one != pool);
            if wanted.is_empty() {
                pools.wanted.remove(pool);
            } else {
                pools.wanted.insert(pool.clone(), wanted);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let pools = self.0.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = AllWanted {
            reals: Wanted::new(),
            is_complete: pools.awaited.is_empty(),
        };
        for wanted in pools.wanted.values() {
            all.reals
                .extend(wanted.iter().map(|(real, standing)| (*real, *standing)));
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
