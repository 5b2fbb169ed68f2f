//! The task of one agent: it compares the controller's reals with what the pools want, and repairs the difference.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use lb_clients::backoff::Backoff;
use lb_model::vip::VipKey;
use lb_proto::v1;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::{
    AgentState, AllWanted, Endpoint, RealFigures, Standing, Wanted,
    client::{Client, client, vip_id, vip_key},
};

/// How often an agent is asked what it knows.
const READ: Duration = Duration::from_secs(1);
/// How often its reals are compared although nothing has changed here: somebody else may have changed them.
const COMPARE: u32 = 10;
/// Pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What an agent refuses; see [`AgentState`].
type Refused = BTreeMap<(VipKey, Option<IpAddr>), String>;

pub(super) struct Reconciler {
    endpoint: Endpoint,
    owner: String,
    wanted: watch::Receiver<Arc<AllWanted>>,
    state: watch::Sender<Arc<AgentState>>,
    /// Whether the controller's store was empty when it started: reals that it finds then are not its own.
    is_new: bool,
    /// The controller's reals at the agent, as it last said; `None` if that is unknown.
    known: Option<Wanted>,
    shed_rates: HashMap<VipKey, f64>,
    looks: u32,
}

impl Reconciler {
    pub fn new(
        endpoint: Endpoint,
        owner: String,
        is_new: bool,
        wanted: watch::Receiver<Arc<AllWanted>>,
        state: watch::Sender<Arc<AgentState>>,
    ) -> Self {
        Reconciler {
            endpoint,
            owner,
            is_new,
            wanted,
            state,
            known: None,
            shed_rates: HashMap::new(),
            looks: 0,
        }
    }

    pub async fn run(mut self) {
        let mut client = client(&self.endpoint);
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let pause = match self.look(&mut client).await {
                Ok(()) => {
                    backoff.reset();
                    READ
                }
                Err(status) => {
                    self.known = None;
                    self.fail(&status);
                    backoff.pause()
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn fail(&self, status: &Status) {
        let text = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown => {
                format!(
                    "the agent at {} cannot be reached: {}",
                    self.endpoint,
                    status.message()
                )
            }
            _ => format!("the agent at {}: {}", self.endpoint, status.message()),
        };
        let is_new = self.state.borrow().trouble.as_ref() != Some(&text);
        if is_new {
            tracing::warn!("{text}");
            self.state.send_modify(|state| {
                Arc::make_mut(state).trouble = Some(text);
            });
        }
    }

    async fn look(&mut self, client: &mut Client) -> Result<(), Status> {
        let wanted = self.wanted.borrow_and_update().clone();
        self.looks = self.looks.wrapping_add(1);
        if self.known.is_none() || self.looks.is_multiple_of(COMPARE) {
            let (known, shed_rates) = list(client, &self.owner).await?;
            if self.is_new && !known.is_empty() {
                return Err(Status::failed_precondition(strangers(
                    &self.owner,
                    known.len(),
                )));
            }
            self.is_new = false;
            self.known = Some(known);
            self.shed_rates = shed_rates;
        }
        let refused = self.repair(client, &wanted).await?;
        let figures = self.figures(client).await?;
        self.state.send_replace(Arc::new(AgentState {
            trouble: None,
            refused,
            shed_rates: self.shed_rates.clone(),
            ..figures
        }));
        Ok(())
    }

    /// Makes the difference. Returns what of it the agent refuses.
    async fn repair(&mut self, client: &mut Client, all: &AllWanted) -> Result<Refused, Status> {
        let wanted = &all.reals;
        let mut known = self.known.take().unwrap_or_default();
        let mut refused = Refused::new();
        let reals: BTreeSet<_> = wanted.keys().chain(known.keys()).copied().collect();
        for real in reals {
            let (vip, address) = real;
            let change = match (known.get(&real), wanted.get(&real)) {
                (None, Some(standing)) => self.add(client, vip, address, *standing).await,
                (Some(before), Some(standing)) if before != standing => {
                    self.change(client, vip, address, *standing).await
                }
                (Some(_), None) if all.is_complete => self.delete(client, vip, address).await,
                _ => continue,
            };
            match change {
                Ok(()) => match wanted.get(&real) {
                    Some(standing) => {
                        known.insert(real, *standing);
                    }
                    None => {
                        known.remove(&real);
                    }
                },
                // Somebody has removed the real; the next look adds it again, or finds that the VIP is gone.
                Err(status) if status.code() == Code::NotFound && known.contains_key(&real) => {
                    known.remove(&real);
                }
                // The agent has no such VIP, or the real is somebody else's: an operator's matter, not a lost connection.
                Err(status) if status.code() == Code::NotFound => {
                    let text = format!(
                        "it has no VIP {vip}, so instances do not serve it there; `lbctl add-vip {vip}` adds it"
                    );
                    refused.insert((vip, None), text);
                }
                Err(status)
                    if matches!(
                        status.code(),
                        Code::AlreadyExists
                            | Code::FailedPrecondition
                            | Code::InvalidArgument
                            | Code::ResourceExhausted
                    ) =>
                {
                    let text = format!(
                        "it refuses the real {address} of {vip}: {}",
                        status.message()
                    );
                    refused.insert((vip, Some(address)), text);
                }
                Err(status) => return Err(status),
            }
        }
        self.known = Some(known);
        Ok(refused)
    }

    fn writer(&self) -> Option<v1::Writer> {
        Some(v1::Writer {
            owner: self.owner.clone(),
            ..v1::Writer::default()
        })
    }

    async fn add(
        &self,
        client: &mut Client,
        vip: VipKey,
        address: IpAddr,
        standing: Standing,
    ) -> Result<(), Status> {
        let request = v1::AddRealRequest {
            vip: Some(vip_id(&vip)),
            address: address.to_string(),
            spec: Some(spec(standing)),
            writer: self.writer(),
        };
        client.add_real(request).await.map(drop)
    }

    async fn change(
        &self,
        client: &mut Client,
        vip: VipKey,
        address: IpAddr,
        standing: Standing,
    ) -> Result<(), Status> {
        let request = v1::UpdateRealRequest {
            vip: Some(vip_id(&vip)),
            address: address.to_string(),
            spec: Some(spec(standing)),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["drained".to_owned(), "evacuated".to_owned()],
            }),
            writer: self.writer(),
        };
        client.update_real(request).await.map(drop)
    }

    async fn delete(
        &self,
        client: &mut Client,
        vip: VipKey,
        address: IpAddr,
    ) -> Result<(), Status> {
        let request = v1::DeleteRealRequest {
            vip: Some(vip_id(&vip)),
            address: address.to_string(),
            writer: self.writer(),
        };
        match client.delete_real(request).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// What the agent knows of the controller's reals.
    async fn figures(&self, client: &mut Client) -> Result<AgentState, Status> {
        let mut state = AgentState::default();
        let Some(known) = self.known.as_ref().filter(|known| !known.is_empty()) else {
            return Ok(state);
        };
        let answer = client.get_stats(v1::GetStatsRequest::default()).await?;
        for vip in answer.into_inner().vips {
            let Some(key) = vip.id.as_ref().and_then(vip_key) else {
                continue;
            };
            if !known.keys().any(|(vip, _)| *vip == key) {
                continue;
            }
            state
                .new_flows
                .insert(key, vip.counters.unwrap_or_default().opened);
            for real in vip.reals {
                let Ok(address) = real.address.parse() else {
                    continue;
                };
                if known.contains_key(&(key, address)) {
                    let figures = RealFigures {
                        flows: Some(real.flows as f64),
                        ..RealFigures::default()
                    };
                    state.reals.insert((key, address), figures);
                }
            }
        }
        let answer = client.explain(v1::ExplainRequest::default()).await?;
        for real in answer.into_inner().reals {
            let key = real.vip.as_ref().and_then(vip_key);
            let address = real.real.as_ref().and_then(|one| one.address.parse().ok());
            let (Some(key), Some(address)) = (key, address) else {
                continue;
            };
            let Some(figures) = state.reals.get_mut(&(key, address)) else {
                continue;
            };
            figures.capacity = real.capacity;
            figures.utilisation = real.utilisation;
            let reading = |quantity: &str| {
                let mut used = real.readings.iter().filter(|one| one.problem.is_empty());
                used.find(|one| one.quantity == quantity)?.value
            };
            figures.connections = reading("connections");
            figures.memory = reading("memory");
            figures.network = reading("network");
        }
        Ok(state)
    }
}

/// Connections a second that may be ended on reals that have too many.
fn shed_rate(steering: &v1::Component) -> f64 {
    let settings = steering.settings.as_ref();
    let value = settings.and_then(|settings| settings.fields.get("shed_rate"));
    match value.and_then(|value| value.kind.as_ref()) {
        Some(prost_types::value::Kind::NumberValue(rate)) => *rate,
        _ => 0.0,
    }
}

fn spec(standing: Standing) -> v1::RealSpec {
    v1::RealSpec {
        drained: Some(standing.is_drained()),
        evacuated: Some(standing == Standing::Evacuated),
        ..v1::RealSpec::default()
    }
}

/// An owner's reals at an agent, and the `shed_rate` of each VIP.
pub(super) async fn list(
    client: &mut Client,
    owner: &str,
) -> Result<(Wanted, HashMap<VipKey, f64>), Status> {
    let answer = client.list_vips(v1::ListVipsRequest::default()).await?;
    let mut reals = Wanted::new();
    let mut shed_rates = HashMap::new();
    for vip in answer.into_inner().vips {
        let Some(key) = vip.id.as_ref().and_then(vip_key) else {
            continue;
        };
        let steering = vip.spec.unwrap_or_default().steering.unwrap_or_default();
        shed_rates.insert(key, shed_rate(&steering));
        for real in vip.reals.into_iter().filter(|real| real.owner == owner) {
            if let Ok(address) = real.address.parse() {
                let spec = real.spec.unwrap_or_default();
                let standing = match (spec.drained(), spec.evacuated()) {
                    (false, _) => Standing::Serving,
                    (true, false) => Standing::Drained,
                    (true, true) => Standing::Evacuated,
                };
                reals.insert((key, address), standing);
            }
        }
    }
    Ok((reals, shed_rates))
}

/// What is wrong if an agent has reals of a controller whose store is empty, and what to do.
pub(super) fn strangers(owner: &str, count: usize) -> String {
    format!(
        "{count} reals of its VIPs belong to {owner}, and this controller's store was empty when it started: another controller \
         has this name (give this one another --name), or the store is elsewhere (--state, --store), or it was lost (start with \
         --take-over: the reals and instances that no pool knows are removed then)"
    )
}
