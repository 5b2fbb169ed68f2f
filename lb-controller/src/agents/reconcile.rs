//! The task of one agent: it compares the controller's reals with what the pools want, and repairs the difference.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use lb_clients::backoff::Backoff;
use lb_model::{intent::VipSpec, settings::Settings as _, vip::VipKey};
use lb_proto::v1;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::{
    AgentState, AllWanted, Endpoint, RealFigures, Standing, WantedReal,
    client::{Client, client},
};

/// How often an agent is asked what it knows.
const READ: Duration = Duration::from_secs(1);
/// How often its reals are compared although nothing has changed here: somebody else may have changed them.
const COMPARE: u32 = 10;
/// How soon, and how often, it is asked again after a change of a VIP, until a real of it is up.
const SOON: Duration = Duration::from_millis(30);
const SOON_LOOKS: u32 = 60;
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
    /// What the controller has at the agent, as it last said; `None` if that is unknown.
    known: Option<Known>,
    /// The settings that each VIP was last given: an agent that understands them in another way is not told each second.
    given: BTreeMap<VipKey, VipSpec>,
    looks: u32,
    /// Looks that are still to be made soon.
    soon: u32,
}

/// What a controller has at an agent.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its reals.
    pub reals: BTreeMap<(VipKey, IpAddr), WantedReal>,
    /// Its VIPs, with the settings that could be read.
    vips: BTreeMap<VipKey, Option<VipSpec>>,
    /// Which of the reals of its VIPs are up.
    up: BTreeMap<VipKey, BTreeMap<IpAddr, bool>>,
    /// Connections a second that each VIP of the agent may end on reals over their share.
    shed_rates: HashMap<VipKey, f64>,
}

impl Known {
    /// Whether it has nothing there.
    pub fn is_empty(&self) -> bool {
        self.reals.is_empty() && self.vips.is_empty()
    }
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
            given: BTreeMap::new(),
            looks: 0,
            soon: 0,
        }
    }

    pub async fn run(mut self) {
        let mut client = client(&self.endpoint);
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let pause = match self.look(&mut client).await {
                Ok(()) => {
                    backoff.reset();
                    if self.soon == 0 { READ } else { SOON }
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
        // The agent says there which reals of VIPs are up.
        let is_due = self.looks.is_multiple_of(COMPARE) || !wanted.vips.is_empty();
        if self.known.is_none() || is_due {
            let known = list(client, &self.owner).await?;
            if self.is_new && !known.is_empty() {
                return Err(Status::failed_precondition(strangers(
                    &self.owner,
                    known.reals.len(),
                )));
            }
            self.is_new = false;
            self.known = Some(known);
        }
        let mut known = self.known.take().unwrap_or_default();
        self.soon = self.soon.saturating_sub(1);
        let mut refused = self.repair_vips(client, &wanted, &mut known).await?;
        refused.extend(self.repair(client, &wanted, &mut known).await?);
        let is_up = |vip| {
            known
                .up
                .get(vip)
                .is_some_and(|reals| reals.values().any(|is_up| *is_up))
        };
        if known.vips.keys().all(is_up) {
            self.soon = 0;
        }
        let figures = self.figures(client, &known).await?;
        let vips = known.vips.keys();
        let vips = vips.map(|vip| (*vip, known.up.get(vip).cloned().unwrap_or_default()));
        self.state.send_replace(Arc::new(AgentState {
            trouble: None,
            refused,
            vips: vips.collect(),
            shed_rates: known.shed_rates.clone(),
            ..figures
        }));
        self.known = Some(known);
        Ok(())
    }

    /// Makes the difference between the VIPs. Returns what of it the agent refuses.
    async fn repair_vips(
        &mut self,
        client: &mut Client,
        all: &AllWanted,
        known: &mut Known,
    ) -> Result<Refused, Status> {
        let mut refused = Refused::new();
        let vips: BTreeSet<VipKey> = all.vips.keys().chain(known.vips.keys()).copied().collect();
        for vip in vips {
            let changed = match (known.vips.get(&vip), all.vips.get(&vip)) {
                (None, Some(spec)) => {
                    let request = v1::AddVipRequest {
                        id: Some(lb_proto::vip::vip_id(&vip)),
                        spec: Some(vip_message(spec)),
                        writer: self.writer(),
                    };
                    client.add_vip(request).await.map(drop)
                }
                (Some(before), Some(spec))
                    if before.as_ref() != Some(spec) && self.given.get(&vip) != Some(spec) =>
                {
                    let request = v1::UpdateVipRequest {
                        id: Some(lb_proto::vip::vip_id(&vip)),
                        spec: Some(vip_message(spec)),
                        update_mask: Some(prost_types::FieldMask {
                            paths: VipSpec::fields()
                                .iter()
                                .map(|field| field.name.to_owned())
                                .collect(),
                        }),
                        writer: self.writer(),
                    };
                    client.update_vip(request).await.map(drop)
                }
                (Some(_), None) if all.is_complete => {
                    let request = v1::DeleteVipRequest {
                        id: Some(lb_proto::vip::vip_id(&vip)),
                        writer: self.writer(),
                    };
                    match client.delete_vip(request).await {
                        Err(status) if status.code() != Code::NotFound => Err(status),
                        _ => Ok(()),
                    }
                }
                _ => continue,
            };
            match (changed, all.vips.get(&vip)) {
                (Ok(()), Some(spec)) => {
                    self.soon = SOON_LOOKS;
                    self.given.insert(vip, spec.clone());
                    known.vips.insert(vip, Some(spec.clone()));
                }
                (Ok(()), None) => {
                    self.given.remove(&vip);
                    known.vips.remove(&vip);
                    known.up.remove(&vip);
                    known.reals.retain(|(of, _), _| *of != vip);
                }
                // Somebody has removed it; the next look adds it again.
                (Err(status), _) if status.code() == Code::NotFound => {
                    known.vips.remove(&vip);
                }
                (Err(status), _) if is_refusal(&status) => {
                    let text = format!("it refuses the VIP {vip}: {}", status.message());
                    refused.insert((vip, None), text);
                }
                (Err(status), _) => return Err(status),
            }
        }
        Ok(refused)
    }

    /// Makes the difference. Returns what of it the agent refuses.
    async fn repair(
        &self,
        client: &mut Client,
        all: &AllWanted,
        known: &mut Known,
    ) -> Result<Refused, Status> {
        let wanted = &all.reals;
        let Known {
            reals: known, vips, ..
        } = known;
        let mut refused = Refused::new();
        let reals: BTreeSet<_> = wanted.keys().chain(known.keys()).copied().collect();
        for real in reals {
            let (vip, address) = real;
            let change = match (known.get(&real), wanted.get(&real)) {
                // Its VIP was refused.
                (None, Some(_)) if all.vips.contains_key(&vip) && !vips.contains_key(&vip) => {
                    continue;
                }
                (None, Some(real)) => self.add(client, vip, address, *real).await,
                (Some(before), Some(real)) if !before.is_as(*real) => {
                    self.change(client, vip, address, *real).await
                }
                (Some(_), None) if all.is_complete => self.delete(client, vip, address).await,
                _ => continue,
            };
            match change {
                Ok(()) => match wanted.get(&real) {
                    Some(wanted) => {
                        known.insert(real, *wanted);
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
                Err(status) if is_refusal(&status) => {
                    let text = format!(
                        "it refuses the real {address} of {vip}: {}",
                        status.message()
                    );
                    refused.insert((vip, Some(address)), text);
                }
                Err(status) => return Err(status),
            }
        }
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
        real: WantedReal,
    ) -> Result<(), Status> {
        let request = v1::AddRealRequest {
            vip: Some(lb_proto::vip::vip_id(&vip)),
            address: address.to_string(),
            spec: Some(spec(real)),
            writer: self.writer(),
        };
        client.add_real(request).await.map(drop)
    }

    async fn change(
        &self,
        client: &mut Client,
        vip: VipKey,
        address: IpAddr,
        real: WantedReal,
    ) -> Result<(), Status> {
        let request = v1::UpdateRealRequest {
            vip: Some(lb_proto::vip::vip_id(&vip)),
            address: address.to_string(),
            spec: Some(spec(real)),
            update_mask: Some(prost_types::FieldMask {
                paths: ["drained", "evacuated"]
                    .into_iter()
                    .chain(real.weight.map(|_| "weight"))
                    .map(str::to_owned)
                    .collect(),
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
            vip: Some(lb_proto::vip::vip_id(&vip)),
            address: address.to_string(),
            writer: self.writer(),
        };
        match client.delete_real(request).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// What the agent knows of the controller's reals.
    async fn figures(&self, client: &mut Client, known: &Known) -> Result<AgentState, Status> {
        let mut state = AgentState::default();
        let known = &known.reals;
        if known.is_empty() {
            return Ok(state);
        }
        let answer = client.get_stats(v1::GetStatsRequest::default()).await?;
        for vip in answer.into_inner().vips {
            let Some(key) = vip.id.as_ref().and_then(lb_proto::vip::vip_of) else {
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
            let key = real.vip.as_ref().and_then(lb_proto::vip::vip_of);
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

fn spec(real: WantedReal) -> v1::RealSpec {
    v1::RealSpec {
        weight: real.weight,
        drained: Some(real.standing.is_drained()),
        evacuated: Some(real.standing == Standing::Evacuated),
        ..v1::RealSpec::default()
    }
}

/// Settings of a VIP as a message.
fn vip_message(spec: &VipSpec) -> v1::VipSpec {
    // Every setting has a field.
    lb_proto::settings::from_map(&spec.to_map(), &VipSpec::fields()).unwrap_or_default()
}

/// Settings of a VIP from a message; `None` if this controller does not understand them.
fn vip_spec(message: &v1::VipSpec) -> Option<VipSpec> {
    let map = lb_proto::settings::to_map(message, &VipSpec::fields()).ok()?;
    lb_model::settings::from_map(&map).ok()
}

/// Whether this is an operator's matter, not a lost connection.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::ResourceExhausted
    )
}

/// What an owner has at an agent.
pub(super) async fn list(client: &mut Client, owner: &str) -> Result<Known, Status> {
    let answer = client.list_vips(v1::ListVipsRequest::default()).await?;
    let mut known = Known::default();
    for vip in answer.into_inner().vips {
        let Some(key) = vip.id.as_ref().and_then(lb_proto::vip::vip_of) else {
            continue;
        };
        let spec = vip.spec.unwrap_or_default();
        if vip.owner == owner {
            known.vips.insert(key, vip_spec(&spec));
        }
        let steering = spec.steering.unwrap_or_default();
        known.shed_rates.insert(key, shed_rate(&steering));
        for real in vip.reals {
            let Ok(address) = real.address.parse() else {
                continue;
            };
            if vip.owner == owner {
                let is_up = real.state() == v1::RealState::Active;
                known.up.entry(key).or_default().insert(address, is_up);
            }
            if real.owner != owner {
                continue;
            }
            let spec = real.spec.unwrap_or_default();
            let standing = match (spec.drained(), spec.evacuated()) {
                (false, _) => Standing::Serving,
                (true, false) => Standing::Drained,
                (true, true) => Standing::Evacuated,
            };
            let real = WantedReal {
                standing,
                weight: spec.weight,
            };
            known.reals.insert((key, address), real);
        }
    }
    Ok(known)
}

/// What is wrong if an agent has reals of a controller whose store is empty, and what to do.
pub(super) fn strangers(owner: &str, count: usize) -> String {
    format!(
        "{count} reals of its VIPs belong to {owner}, and this controller's store was empty when it started: another controller \
         has this name (give this one another --name), or the store is elsewhere (--state, --store), or it was lost (start with \
         --take-over: the reals and instances that no pool knows are removed then)"
    )
}
