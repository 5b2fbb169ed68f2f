//! Counters: once, and as a stream.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lb_common::reason::Verdict;
use lb_model::{intent::Refusal, vip::VipKey};
use lb_proto::v1;
use tokio::{
    sync::{Mutex, mpsc},
    time::MissedTickBehavior,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::Status;

use super::{
    Api, ResponseStream, convert,
    error::{refused, unread},
};
use crate::control::{RealView, StatsView, VipView};

/// Counters for streams are at most this old; half of a stream's interval if that is shorter.
const SHARED_AGE: Duration = Duration::from_millis(500);

/// The counters of all VIPs as they were last read for a stream, shared by all streams.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedStats(Arc<Mutex<Option<ReadStats>>>);

#[derive(Clone, Debug)]
struct ReadStats {
    at: Instant,
    stats: Arc<v1::Stats>,
}

impl Api {
    pub(super) async fn stats(&self, vip: Option<VipKey>) -> Result<v1::Stats, Status> {
        let view = self.control.stats(vip).await.map_err(unread)?;
        Ok(stats(&view))
    }

    /// The counters of all VIPs, at most this old. However many streams ask, one reads.
    async fn shared_stats(&self, age: Duration) -> Result<Arc<v1::Stats>, Status> {
        let mut last = self.shared_stats.0.lock().await;
        if let Some(read) = &*last
            && read.at.elapsed() <= age
        {
            return Ok(Arc::clone(&read.stats));
        }
        // Not kept while nobody follows, and not twice meanwhile.
        *last = None;
        let at = Instant::now();
        let stats = Arc::new(self.stats(None).await?);
        *last = Some(ReadStats {
            at,
            stats: Arc::clone(&stats),
        });
        Ok(stats)
    }

    pub(super) async fn stats_stream(
        &self,
        request: v1::WatchStatsRequest,
    ) -> Result<ResponseStream<v1::Stats>, Status> {
        let vip = convert::optional_vip(request.id, convert::ID).map_err(refused)?;
        let interval = convert::interval(request.interval).map_err(refused)?;
        let age = SHARED_AGE.min(interval / 2);
        let mut ticks = tokio::time::interval(interval);
        // A client that does not read gets fewer figures, not a heap of them.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (sender, receiver) = mpsc::channel(1);
        let api = self.clone();
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = sender.closed() => return,
                    () = lb_serve::stopped(&mut stopping) => {
                        let _ = sender.send(Err(super::stopping())).await;
                        return;
                    }
                }
                // Read when there is room, so that what is sent is of that moment.
                let Ok(room) = sender.reserve().await else {
                    return;
                };
                let stats = api.shared_stats(age).await;
                let ended = stats.is_err();
                room.send(stats);
                if ended {
                    return;
                }
            }
        });
        // Copied when it is encoded, and not before: what waits for a client is shared.
        let stats = ReceiverStream::new(receiver).map(move |all| excerpt(&*all?, vip));
        Ok(Box::pin(stats))
    }
}

/// The counters of one VIP, or of all.
fn excerpt(all: &v1::Stats, vip: Option<VipKey>) -> Result<v1::Stats, Status> {
    let Some(vip) = vip else {
        return Ok(all.clone());
    };
    let id = convert::vip_id(&vip);
    let of_vip = all
        .vips
        .iter()
        .find(|stats| stats.id.as_ref() == Some(&id))
        .ok_or_else(|| refused(Refusal::VipUnknown(vip)))?;
    Ok(v1::Stats {
        time: all.time,
        vips: vec![of_vip.clone()],
        interfaces: all.interfaces.clone(),
        flow_table: all.flow_table,
    })
}

fn counters(of: lb_dataplane::Counters) -> v1::Counters {
    v1::Counters {
        packets: of.packets,
        bytes: of.bytes,
        opened: of.opened,
        closed: of.closed,
    }
}

fn signs(of: lb_dataplane::Signs) -> v1::Signs {
    v1::Signs {
        opened: of.opened,
        repeated_syns: of.repeated,
        resets: of.resets,
        lives: of.lives.to_vec(),
        median_life: of
            .median_life()
            .and_then(|life| prost_types::Duration::try_from(life).ok()),
    }
}

pub(super) fn stats(view: &StatsView) -> v1::Stats {
    let services: HashMap<VipKey, &lb_dataplane::ServiceStats> = view
        .stats
        .services
        .iter()
        .map(|service| (service.vip, service))
        .collect();
    let table = view.stats.flow_table;
    v1::Stats {
        time: Some(convert::timestamp(SystemTime::now())),
        vips: view
            .vips
            .iter()
            .map(|vip| vip_stats(vip, services.get(&vip.vip.address).copied()))
            .collect(),
        interfaces: view.stats.interfaces.iter().map(interface_stats).collect(),
        flow_table: Some(v1::FlowTableStats {
            capacity: table.capacity,
            used: table.used,
            inserted: table.inserted,
            evicted: table.evicted,
            hits: table.hits,
            misses: table.misses,
            provisional: table.provisional,
            evicted_provisional: table.evicted_provisional,
            evicted_confirmed: table.evicted_confirmed(),
            refused: table.refused,
        }),
    }
}

fn vip_stats(view: &VipView, service: Option<&lb_dataplane::ServiceStats>) -> v1::VipStats {
    let real = |real: &RealView| {
        let counted = service.and_then(|service| {
            service
                .reals
                .iter()
                .find(|counted| counted.real == real.address)
        });
        v1::RealStats {
            address: real.address.to_string(),
            counters: Some(counters(
                counted.map_or_else(Default::default, |counted| counted.counters),
            )),
            signs: counted.and_then(|counted| counted.signs).map(signs),
            weight: real.spec.weight,
            effective_weight: real.effective_weight,
            share: real.share,
            flows: real.flows,
            flows_exact: real.flows_exact,
            state: convert::real_state(real.state).into(),
        }
    };
    let (dropped_packets, dropped_bytes) = service.map_or((0, 0), |service| service.dropped);
    v1::VipStats {
        id: Some(convert::vip_id(&view.vip.address)),
        counters: Some(counters(
            service.map_or_else(Default::default, |service| service.total),
        )),
        dropped_packets,
        dropped_bytes,
        reals: view.reals.iter().map(real).collect(),
        slots: service.map(|service| slot_states(service.slots)),
        named: service.map_or(0, |service| service.named),
        named_unknown: service.map_or(0, |service| service.named_unknown),
        table_hits: service.map_or(0, |service| service.table_hits),
        table_misses: service.map_or(0, |service| service.table_misses),
    }
}

/// The slots of rings, as messages have them.
pub(super) const fn slot_states(slots: lb_dataplane::SlotStates) -> v1::SlotStates {
    v1::SlotStates {
        settled: slots.settled,
        in_window: slots.in_window,
        exceptions: slots.exceptions,
    }
}

/// A verdict's name in the API.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Drop => "drop",
        Verdict::Pass => "pass",
        Verdict::Tx => "tx",
        Verdict::Redirect => "redirect",
    }
}

fn interface_stats(interface: &lb_dataplane::InterfaceStats) -> v1::InterfaceStats {
    v1::InterfaceStats {
        name: interface.name.clone(),
        decapsulated: interface.decapsulated,
        reasons: interface
            .reasons
            .iter()
            .map(|(reason, frames)| v1::ReasonCount {
                reason: reason.name().to_owned(),
                verdict: verdict(reason.verdict()).to_owned(),
                frames: *frames,
            })
            .collect(),
    }
}
