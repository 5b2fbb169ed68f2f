//! Metrics of a real of a VIP.

use lb_proto::v1;
use lb_serve::metrics::{Kind, Unit, Value};

use super::{
    BYTE_COUNTER, COUNTER, GAUGE, Metric, RATIO, Read, SECONDS, SECONDS_COUNTER, each_real, metric,
    yes,
};
use crate::control::RealState;
use crate::metrics::scrape::RealScrape;

const LABELS: &[&str] = &["vip", "real"];

const fn real(
    name: &'static str,
    kind: (Kind, Option<Unit>),
    help: &'static str,
    read: fn(&RealScrape) -> Option<Value<'_>>,
) -> Metric {
    metric(name, kind, LABELS, help, Read::Real(read))
}

/// The number of a state is that of `lb.v1.RealState`.
const fn state(state: RealState) -> u64 {
    let state = match state {
        RealState::Active => v1::RealState::Active,
        RealState::Draining => v1::RealState::Draining,
        RealState::Unreachable => v1::RealState::Unreachable,
        RealState::Down => v1::RealState::Down,
        RealState::Held => v1::RealState::Held,
    };
    state as u64
}

pub(super) const METRICS: &[Metric] = &[
    real(
        "lb_real_packets_total",
        COUNTER,
        "Packets forwarded to it since it was added.",
        |real| Some(Value::Count(real.counters.packets)),
    ),
    real(
        "lb_real_bytes_total",
        BYTE_COUNTER,
        "Bytes of these packets, as received.",
        |real| Some(Value::Count(real.counters.bytes)),
    ),
    real(
        "lb_real_flows_opened_total",
        COUNTER,
        "New flows; not exact for UDP, unless the VIP tracks all flows.",
        |real| Some(Value::Count(real.counters.opened)),
    ),
    real(
        "lb_real_flows_closed_total",
        COUNTER,
        "FINs and RSTs of clients.",
        |real| Some(Value::Count(real.counters.closed)),
    ),
    real(
        "lb_real_sampled_flows_total",
        COUNTER,
        "New flows of the sample that shows how it serves its flows; only TCP.",
        |real| Some(Value::Count(real.signs?.opened)),
    ),
    real(
        "lb_real_sampled_flows_ended_total",
        COUNTER,
        "Flows of the sample that their clients ended; only TCP.",
        |real| Some(Value::Count(real.signs?.ended())),
    ),
    real(
        "lb_real_sampled_flows_seconds_total",
        SECONDS_COUNTER,
        "How long these flows lived, all together, to a factor of 1.5; only TCP.",
        |real| Some(Value::Number(real.signs?.lived().as_secs_f64())),
    ),
    real(
        "lb_real_repeated_syns_total",
        COUNTER,
        "SYNs that repeat the one of a flow of the sample, because its client got no answer; only TCP.",
        |real| Some(Value::Count(real.signs?.repeated)),
    ),
    real(
        "lb_real_client_resets_total",
        COUNTER,
        "Flows of the sample that their clients ended with a reset; only TCP.",
        |real| Some(Value::Count(real.signs?.resets)),
    ),
    real(
        "lb_real_flows",
        GAUGE,
        "Live flows; exact where the VIP tracks all flows, else opened minus closed.",
        |real| Some(Value::Count(real.view.flows)),
    ),
    real(
        "lb_real_flow_entries",
        GAUGE,
        "Entries of the flow table that name it.",
        |real| Some(Value::Count(real.view.entries)),
    ),
    real("lb_real_weight", GAUGE, "The operator's weight.", |real| {
        Some(Value::Count(real.view.spec.weight.into()))
    }),
    real(
        "lb_real_effective_weight",
        GAUGE,
        "The weight that steering applies: 0 if the real takes no new flows.",
        |real| Some(Value::Count(real.view.effective_weight.into())),
    ),
    real(
        "lb_real_share_ratio",
        RATIO,
        "Its share of the ring, and so of the VIP's new flows.",
        |real| Some(Value::Number(real.view.share)),
    ),
    real(
        "lb_real_target_share_ratio",
        RATIO,
        "The share that steering aims at; only of VIPs that are steered.",
        |real| real.observed.target_share.map(Value::Number),
    ),
    real(
        "lb_real_up",
        GAUGE,
        "0 if its checks fail, else 1.",
        |real| Some(yes(real.view.state != RealState::Down)),
    ),
    real(
        "lb_real_state",
        GAUGE,
        "1 active, 2 draining (by the operator), 3 unreachable (no next hop), 4 down (checks fail), 5 held (by \
         steering).",
        |real| Some(Value::Count(state(real.view.state))),
    ),
    real(
        "lb_real_utilisation_ratio",
        RATIO,
        "Its load as a fraction of its own limit, as steering uses it; only if a reader reports it.",
        |real| real.observed.utilisation.map(Value::Number),
    ),
    real(
        "lb_real_trust_ratio",
        RATIO,
        "How far steering trusts its utilisation: 0 is not at all; only while it has one.",
        |real| real.observed.trust.map(Value::Number),
    ),
    real(
        "lb_real_capacity",
        GAUGE,
        "Estimated capacity: connections, or new flows a second where connections are short; only once it is known.",
        |real| real.observed.capacity.map(Value::Number),
    ),
    metric(
        "lb_real_limited_by",
        GAUGE,
        &["vip", "real", "reason"],
        "Always 1; the label `reason` says what keeps its weight from being more, `nothing` included. Only of VIPs \
         that are steered.",
        Read::Samples(|scrape, samples| {
            each_real(scrape, |vip, real| {
                let Some(reason) = real.observed.limited_by else {
                    return Ok(());
                };
                let labels = [
                    ("vip", vip.name.as_str()),
                    ("real", &real.name),
                    ("reason", reason),
                ];
                samples.add(&labels, Value::Count(1))
            })
        }),
    ),
    real(
        "lb_real_reading_age_seconds",
        SECONDS,
        "Age of the last load reading; of several readers, of the one whose last reading is the oldest.",
        |real| {
            let age = real.observed.readers?.age?;
            Some(Value::Number(age.as_secs_f64()))
        },
    ),
    real(
        "lb_real_reader_failures_total",
        COUNTER,
        "Questions of load readers that were not answered, all its readers together.",
        |real| Some(Value::Count(real.observed.readers?.failures)),
    ),
    real(
        "lb_real_unreadable_values_total",
        COUNTER,
        "Lines, topics, values and words of load readers' answers that could not be read; the rest of an answer is used.",
        |real| Some(Value::Count(real.observed.readers?.unreadable)),
    ),
    real(
        "lb_real_failing_readers",
        GAUGE,
        "Load readers whose last question was not answered, or that have no answer yet.",
        |real| Some(Value::Count(real.observed.readers?.failing)),
    ),
];
