//! What changes would do, and the reload of the configuration file.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use lb_model::{
    intent::{
        Change, Intent, Patch, Plan, RealSpec, Refusal, Vip, Writer,
        follow::{LeftObject, follow},
    },
    settings::Settings as _,
    vip::{RealId, VipKey},
};
use lb_proto::{settings, v1};
use lb_steering::ring;
use tonic::{Code, Status};

use super::{
    Api, change, convert,
    error::{refused, refused_real, unread},
    ring::effective,
};
use crate::{
    KINDS,
    config::Config,
    control::{ChangeRequest, Service, Snapshot, refuse_programs},
    reload::{ReloadError, Reloader, SettingsChange},
};

/// Changes that are only tried.
struct Trial {
    changes: Vec<(Change, Result<(), Refusal>, Patch)>,
    /// The intent after those that are valid.
    after: Intent,
}

impl Api {
    pub(super) async fn reload_file(
        &self,
        request: v1::ReloadRequest,
        cause: Arc<str>,
    ) -> Result<v1::ChangePlan, Status> {
        let writer = Reloader::writer(request.force);
        if request.dry_run {
            let reread = self.reloader.read().await.map_err(unreloaded)?;
            let plan = self.try_following(reread.intent, writer).await?;
            return Ok(with_settings(plan, reread.settings));
        }
        let before = self.control.snapshot().await.map_err(unread)?.intent;
        let (followed, settings) = self
            .reloader
            .reload(request.force, cause)
            .await
            .map_err(unreloaded)?;
        let plan = v1::ChangePlan {
            changes: followed
                .changes
                .into_iter()
                .map(|(change, made)| {
                    let settings_before = settings_before(&change, &before);
                    planned(change, made, settings_before)
                })
                .collect(),
            left: followed.left.into_iter().map(left).collect(),
            ..Default::default()
        };
        Ok(with_settings(plan, settings))
    }

    pub(super) async fn plan_changes(
        &self,
        request: v1::PlanRequest,
    ) -> Result<v1::ChangePlan, Status> {
        use v1::plan_request::Source;
        match request.source {
            Some(Source::Configuration(text)) => {
                let config = tokio::task::spawn_blocking(move || {
                    Config::parse(&text, Path::new("configuration"))
                });
                let config = config.await.map_err(|error| failed(&error))?;
                let config = config.map_err(|error| {
                    refused(Refusal::invalid(
                        "configuration",
                        error,
                        "nothing was compared",
                    ))
                })?;
                let settings = self.reloader.compare(&config.agent);
                let plan = self
                    .try_following(config.intent, Reloader::writer(request.force))
                    .await?;
                Ok(with_settings(plan, settings))
            }
            Some(Source::Changes(list)) => {
                let cause = Arc::from("Plan");
                let requests = list.changes.into_iter();
                let requests = requests.map(|request| change::of(request.change, &cause));
                let requests = requests.collect::<Result<Vec<_>, _>>().map_err(refused)?;
                let snapshot = self.control.snapshot().await.map_err(unread)?;
                self.try_all(snapshot, requests, Vec::new()).await
            }
            None => Err(refused(Refusal::invalid(
                "source",
                "not set",
                "give `configuration` or `changes`",
            ))),
        }
    }

    async fn try_following(
        &self,
        wanted: Intent,
        writer: Writer,
    ) -> Result<v1::ChangePlan, Status> {
        let snapshot = self.control.snapshot().await.map_err(unread)?;
        let Plan { changes, left } = follow(&snapshot.intent, &wanted, &writer);
        let cause: Arc<str> = Arc::from("Plan");
        let requests = changes.into_iter().map(|change| ChangeRequest {
            change,
            writer: writer.clone(),
            cause: Arc::clone(&cause),
        });
        self.try_all(snapshot, requests.collect(), left).await
    }

    /// Tries these changes on a copy of the intent, and says what they would move.
    async fn try_all(
        &self,
        snapshot: Snapshot,
        requests: Vec<ChangeRequest>,
        left_alone: Vec<LeftObject>,
    ) -> Result<v1::ChangePlan, Status> {
        let (before, trial) = tokio::task::spawn_blocking(move || {
            let trial = try_changes(&snapshot, requests);
            (snapshot.intent, trial)
        })
        .await
        .map_err(|error| failed(&error))?;
        let mut pairs = Vec::new();
        for vip in touched(&trial) {
            // A VIP that is new, or deleted, moves no flow from one real to another.
            let (Some(_), Some(after)) = (before.get(&vip), trial.after.get(&vip)) else {
                continue;
            };
            if let Ok(service) = self.control.service(vip).await {
                pairs.push((service, Arc::clone(after)));
            }
        }
        let seed = self.control.seed;
        // Building rings takes milliseconds each: not on a thread that others wait for.
        let moves = tokio::task::spawn_blocking(move || {
            let moves = pairs.into_iter();
            let moves = moves.map(|(service, after)| v1::PlannedMove {
                vip: Some(convert::vip_id(&after.address)),
                moved: moved(&service, &after, seed),
            });
            moves.filter(|entry| entry.moved > 0.0).collect()
        })
        .await
        .map_err(|error| failed(&error))?;
        let changes = trial.changes.into_iter();
        Ok(v1::ChangePlan {
            changes: changes
                .map(|(change, valid, before)| planned(change, valid, before))
                .collect(),
            left: left_alone.into_iter().map(left).collect(),
            moves,
            ..Default::default()
        })
    }
}

fn try_changes(snapshot: &Snapshot, requests: Vec<ChangeRequest>) -> Trial {
    let mut after = snapshot.intent.clone();
    let mut changes = Vec::new();
    for ChangeRequest { change, writer, .. } in requests {
        let before = settings_before(&change, &after);
        let valid = change.apply(&after, &writer, &KINDS).and_then(|vip| {
            if let Some(vip) = &vip {
                refuse_programs(vip, snapshot.exec_checks)?;
            }
            after.replace(*change.vip(), vip);
            Ok(())
        });
        changes.push((change, valid, before));
    }
    Trial { changes, after }
}

/// The VIPs that valid changes touch.
fn touched(trial: &Trial) -> BTreeSet<VipKey> {
    let valid = trial.changes.iter().filter(|(_, valid, _)| valid.is_ok());
    valid.map(|(change, ..)| *change.vip()).collect()
}

/// Share of a VIP's new flows that would go to another real.
fn moved(service: &Service, after: &Vip, seed: u64) -> f64 {
    let operators = |real: &RealSpec| if real.drained { 0 } else { real.weight };
    let what_if = after.reals.iter().filter_map(|(id, real)| {
        let before = service.vip.reals.get(id);
        let weight = operators(&real.spec);
        let same = before.is_some_and(|before| operators(&before.spec) == weight);
        (!same).then_some((*id, weight))
    });
    let mut weights = effective(service, &what_if.collect());
    weights.retain(|address, _| after.reals.contains_key(address));
    let pairs: Vec<(RealId, u32)> = weights.into_iter().collect();
    let reals: Vec<RealId> = pairs.iter().map(|(address, _)| *address).collect();
    if service.ring.is_empty() || pairs.is_empty() {
        // A VIP that had no real, or has none any more, moves no flow from one real to another.
        return 0.0;
    }
    let ring = ring::build(after.spec.ring, seed, after.slots(), &pairs);
    let (before, now) = ((&*service.ring, &*service.reals), (&*ring, &*reals));
    let hash = |vip: &Vip| vip.spec.hash.flags(vip.spec.ring, vip.address.protocol);
    if hash(&service.vip) == hash(after) {
        ring::moved(before, now)
    } else {
        ring::moved_by_hash(before, now)
    }
}

/// The values that a change's settings have before it.
fn settings_before(change: &Change, intent: &Intent) -> Patch {
    let (patch, before) = match change {
        Change::UpdateVip { vip, patch } => (patch, intent.get(vip).map(|vip| vip.spec.to_map())),
        Change::UpdateReal { vip, real, patch } => {
            let real = intent.get(vip).and_then(|vip| vip.reals.get(real));
            (patch, real.map(|real| real.spec.to_map()))
        }
        _ => return Patch::new(),
    };
    let values = before.unwrap_or_default().into_iter();
    values
        .filter(|(name, _)| patch.contains_key(name))
        .collect()
}

fn planned(change: Change, made: Result<(), Refusal>, before: Patch) -> v1::PlannedChange {
    let real = change.real();
    let (error, code) = match made {
        Ok(()) => (String::new(), Code::Ok),
        Err(refusal) => {
            let status = if real.is_some() {
                refused_real(refusal)
            } else {
                refused(refusal)
            };
            (status.message().to_owned(), status.code())
        }
    };
    v1::PlannedChange {
        kind: change.name().to_owned(),
        vip: Some(convert::vip_id(change.vip())),
        real: real.map(|real| real.to_string()).unwrap_or_default(),
        settings: Some(settings::map_to_struct(
            change.patch().cloned().unwrap_or_default(),
        )),
        before: Some(settings::map_to_struct(before)),
        error,
        code: code.into(),
    }
}

fn left(object: LeftObject) -> v1::LeftObject {
    v1::LeftObject {
        vip: Some(convert::vip_id(&object.vip)),
        real: object.real.map(|real| real.to_string()).unwrap_or_default(),
        owner: object.owner.to_string(),
    }
}

fn with_settings(plan: v1::ChangePlan, settings: SettingsChange) -> v1::ChangePlan {
    let names = |names: Vec<&'static str>| names.into_iter().map(str::to_owned).collect();
    v1::ChangePlan {
        at_next_start: names(settings.at_next_start),
        overridden: names(settings.overridden),
        ..plan
    }
}

fn failed(error: &tokio::task::JoinError) -> Status {
    Status::internal(format!("comparing failed: {error}"))
}

/// Why the file was not reloaded.
fn unreloaded(error: ReloadError) -> Status {
    let text = error.to_string();
    match error {
        ReloadError::NoFile => Status::failed_precondition(text),
        ReloadError::File(_) => Status::invalid_argument(text),
        ReloadError::Stopping(error) => unread(error),
    }
}
