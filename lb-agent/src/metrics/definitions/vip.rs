//! Metrics of a VIP.

use lb_serve::metrics::Value;

use super::{BYTE_COUNTER, COUNTER, DURATIONS, GAUGE, Metric, Read, count, metric, yes};
use crate::control::RealState;
use crate::metrics::scrape::{RealScrape, VipScrape};

const LABELS: &[&str] = &["vip"];

const fn vip(
    name: &'static str,
    kind: (lb_serve::metrics::Kind, Option<lb_serve::metrics::Unit>),
    help: &'static str,
    read: fn(&VipScrape) -> Option<Value<'_>>,
) -> Metric {
    metric(name, kind, LABELS, help, Read::Vip(read))
}

fn reals(vip: &VipScrape, in_state: fn(RealState) -> bool) -> Option<Value<'static>> {
    let is = |real: &&RealScrape| in_state(real.view.state);
    Some(count(vip.reals.iter().filter(is).count()))
}

pub(super) const METRICS: &[Metric] = &[
    vip(
        "lb_vip_packets_total",
        COUNTER,
        "Packets forwarded to reals, deleted reals included.",
        |vip| Some(Value::Count(vip.total.packets)),
    ),
    vip(
        "lb_vip_bytes_total",
        BYTE_COUNTER,
        "Bytes of the IP packets forwarded, as received.",
        |vip| Some(Value::Count(vip.total.bytes)),
    ),
    vip(
        "lb_vip_flows_opened_total",
        COUNTER,
        "New flows; not exact for UDP, unless the VIP tracks all flows.",
        |vip| Some(Value::Count(vip.total.opened)),
    ),
    vip(
        "lb_vip_flows_closed_total",
        COUNTER,
        "FINs and RSTs of clients.",
        |vip| Some(Value::Count(vip.total.closed)),
    ),
    vip(
        "lb_vip_dropped_packets_total",
        COUNTER,
        "Packets dropped: no real, no next hop, or any other reason to drop.",
        |vip| Some(Value::Count(vip.dropped.0)),
    ),
    vip(
        "lb_vip_dropped_bytes_total",
        BYTE_COUNTER,
        "Bytes of the packets dropped.",
        |vip| Some(Value::Count(vip.dropped.1)),
    ),
    vip("lb_vip_reals", GAUGE, "Configured reals.", |vip| {
        Some(count(vip.reals.len()))
    }),
    vip(
        "lb_vip_healthy_reals",
        GAUGE,
        "Reals whose checks do not fail; a real without a check counts as healthy.",
        |vip| reals(vip, |state| state != RealState::Down),
    ),
    vip(
        "lb_vip_active_reals",
        GAUGE,
        "Reals that take new flows.",
        |vip| reals(vip, |state| state == RealState::Active),
    ),
    vip("lb_vip_slots", GAUGE, "Slots of the ring.", |vip| {
        Some(Value::Count(vip.slots.total()))
    }),
    vip(
        "lb_vip_unsettled_slots",
        GAUGE,
        "Slots whose packets consult the flow table, because the ring changed not long ago.",
        |vip| Some(Value::Count(vip.slots.unsettled())),
    ),
    vip(
        "lb_vip_window_slots",
        GAUGE,
        "Unsettled slots whose real changed within the VIP's window: all packets consult the flow table.",
        |vip| Some(Value::Count(vip.slots.in_window)),
    ),
    vip(
        "lb_vip_exception_slots",
        GAUGE,
        "Unsettled slots whose window is over, with flows on other reals: packets that may be of these flows consult the \
         flow table.",
        |vip| Some(Value::Count(vip.slots.exceptions)),
    ),
    metric(
        "lb_vip_flow_table_packets_total",
        COUNTER,
        &["vip", "result"],
        "Packets that consulted the flow table, by result: `hit` or `miss`; all others went by the ring alone.",
        Read::Samples(|scrape, samples| {
            for vip in &scrape.vips {
                for (result, count) in [("hit", vip.lookups.0), ("miss", vip.lookups.1)] {
                    let labels = [("vip", vip.name.as_str()), ("result", result)];
                    samples.add(&labels, Value::Count(count))?;
                }
            }
            Ok(())
        }),
    ),
    metric(
        "lb_vip_server_id_packets_total",
        COUNTER,
        &["vip", "result"],
        "Packets that name a real by its server id, by result: `known` went to that real, `unknown` went the usual way because no \
         real has the id that is alive.",
        Read::Samples(|scrape, samples| {
            for vip in &scrape.vips {
                for (result, count) in [("known", vip.named.0), ("unknown", vip.named.1)] {
                    let labels = [("vip", vip.name.as_str()), ("result", result)];
                    samples.add(&labels, Value::Count(count))?;
                }
            }
            Ok(())
        }),
    ),
    vip(
        "lb_vip_steering_fallback",
        GAUGE,
        "1 while steering has fallen back to the operator's weights, else 0; only of VIPs that are steered.",
        |vip| vip.falls_back.map(yes),
    ),
    metric(
        "lb_vip_probes_total",
        COUNTER,
        &["vip", "result"],
        "Health probes by result: `healthy`, `drain`, `unhealthy`, or `inconclusive` (this host could not make it, or \
         slept); only of VIPs with a check.",
        Read::Samples(|scrape, samples| {
            for vip in &scrape.vips {
                let Some(probes) = &vip.probes else { continue };
                for (result, count) in [
                    ("healthy", probes.healthy),
                    ("drain", probes.drain),
                    ("unhealthy", probes.unhealthy),
                    ("inconclusive", probes.inconclusive),
                ] {
                    let labels = [("vip", vip.name.as_str()), ("result", result)];
                    samples.add(&labels, Value::Count(count))?;
                }
            }
            Ok(())
        }),
    ),
    vip(
        "lb_vip_undecided_reals",
        GAUGE,
        "Reals whose last health probe was inconclusive: their state is kept; only of VIPs with a check.",
        |vip| Some(Value::Count(vip.probes.as_ref()?.undecided)),
    ),
    vip(
        "lb_vip_probe_duration_seconds",
        DURATIONS,
        "How long health probes took, failed ones included and inconclusive ones not; only of VIPs with a check.",
        |vip| {
            let probes = vip.probes.as_ref()?;
            Some(Value::Histogram(&probes.durations))
        },
    ),
];
