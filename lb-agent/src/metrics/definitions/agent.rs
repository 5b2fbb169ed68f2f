//! Metrics of the data plane and of the agent itself.

use std::time::SystemTime;

use lb_dataplane::{InterfaceStatus, TableUse};
use lb_serve::metrics::{Kind, Samples, Unit, Value};

use super::{BYTES, COUNTER, DURATIONS, GAUGE, INFO, Metric, Read, SECONDS, count, metric, yes};
use crate::metrics::scrape::{Scrape, VipScrape};

const fn agent(
    name: &'static str,
    kind: (Kind, Option<Unit>),
    help: &'static str,
    read: fn(&Scrape) -> Value<'_>,
) -> Metric {
    metric(name, kind, &[], help, Read::Agent(read))
}

fn interfaces(
    scrape: &Scrape,
    samples: &mut Samples<'_>,
    value: fn(&InterfaceStatus) -> bool,
) -> std::fmt::Result {
    let interfaces = &scrape.status.dataplane.interfaces;
    interfaces.iter().try_for_each(|interface| {
        samples.add(&[("interface", &interface.name)], yes(value(interface)))
    })
}

fn tables(
    scrape: &Scrape,
    samples: &mut Samples<'_>,
    value: fn(&TableUse) -> u64,
) -> std::fmt::Result {
    let tables = &scrape.status.dataplane.tables;
    tables
        .iter()
        .try_for_each(|table| samples.add(&[("table", table.name)], Value::Count(value(table))))
}

fn families(
    scrape: &Scrape,
    samples: &mut Samples<'_>,
    number: fn(&VipScrape, bool) -> usize,
) -> std::fmt::Result {
    [("ipv4", false), ("ipv6", true)]
        .into_iter()
        .try_for_each(|(family, v6)| {
            let total = scrape.vips.iter().map(|vip| number(vip, v6)).sum();
            samples.add(&[("family", family)], count(total))
        })
}

fn results(
    samples: &mut Samples<'_>,
    (good, done): (&str, u64),
    (bad, failed): (&str, u64),
) -> std::fmt::Result {
    samples.add(&[("result", good)], Value::Count(done))?;
    samples.add(&[("result", bad)], Value::Count(failed))
}

pub(super) const DATA_PLANE: &[Metric] = &[
    metric(
        "lb_interface_attached",
        GAUGE,
        &["interface"],
        "1 if the XDP program is attached, 0 if the interface is gone or the program was detached.",
        Read::Samples(|scrape, samples| {
            interfaces(scrape, samples, |interface| interface.attached)
        }),
    ),
    metric(
        "lb_interface_native",
        GAUGE,
        &["interface"],
        "1 if the program runs in the driver, 0 if it runs in the slower generic mode.",
        Read::Samples(|scrape, samples| interfaces(scrape, samples, |interface| interface.native)),
    ),
    metric(
        "lb_interface_frames_total",
        COUNTER,
        &["interface", "reason"],
        "Frames by the reason of their way out; the sum over all reasons is the frames received.",
        Read::Samples(|scrape, samples| {
            for interface in &scrape.interfaces {
                for (reason, frames) in &interface.reasons {
                    let labels = [
                        ("interface", interface.name.as_str()),
                        ("reason", reason.name()),
                    ];
                    samples.add(&labels, Value::Count(*frames))?;
                }
            }
            Ok(())
        }),
    ),
    metric(
        "lb_interface_decapsulated_frames_total",
        COUNTER,
        &["interface"],
        "Frames whose tunnel ended at the balancer; each is counted by its reason as well.",
        Read::Samples(|scrape, samples| {
            for interface in &scrape.interfaces {
                let labels = [("interface", interface.name.as_str())];
                samples.add(&labels, Value::Count(interface.decapsulated))?;
            }
            Ok(())
        }),
    ),
    agent(
        "lb_flow_table_capacity",
        GAUGE,
        "Flows that the flow table has room for.",
        |scrape| Value::Count(scrape.flow_table.capacity),
    ),
    agent(
        "lb_flow_table_used",
        GAUGE,
        "Live entries of the flow table, as of the last sweep.",
        |scrape| Value::Count(scrape.flow_table.used),
    ),
    agent(
        "lb_flow_table_provisional",
        GAUGE,
        "Live entries whose flow sent one packet so far, which anybody can forge, as of the last sweep.",
        |scrape| Value::Count(scrape.flow_table.provisional),
    ),
    agent(
        "lb_flow_table_inserted_total",
        COUNTER,
        "Entries inserted into the flow table.",
        |scrape| Value::Count(scrape.flow_table.inserted),
    ),
    metric(
        "lb_flow_table_evicted_total",
        COUNTER,
        &["reason"],
        "Live entries evicted from the flow table for want of room, by reason: `provisional` if their flow sent one packet \
         so far, `confirmed` for others, which only earlier versions evicted.",
        Read::Samples(|scrape, samples| {
            let table = &scrape.flow_table;
            samples.add(
                &[("reason", "provisional")],
                Value::Count(table.evicted_provisional),
            )?;
            samples.add(
                &[("reason", "confirmed")],
                Value::Count(table.evicted_confirmed()),
            )
        }),
    ),
    agent(
        "lb_flow_table_refused_total",
        COUNTER,
        "Flows that got no entry, because all that they might have had are confirmed.",
        |scrape| Value::Count(scrape.flow_table.refused),
    ),
    agent(
        "lb_flow_table_hits_total",
        COUNTER,
        "Packets that found their entry in the flow table.",
        |scrape| Value::Count(scrape.flow_table.hits),
    ),
    agent(
        "lb_flow_table_misses_total",
        COUNTER,
        "Packets that consulted the flow table and found no entry.",
        |scrape| Value::Count(scrape.flow_table.misses),
    ),
    metric(
        "lb_table_used",
        GAUGE,
        &["table"],
        "Entries in use of a kernel table.",
        Read::Samples(|scrape, samples| tables(scrape, samples, |table| table.used)),
    ),
    metric(
        "lb_table_capacity",
        GAUGE,
        &["table"],
        "Entries that a kernel table has room for; most tables grow by themselves.",
        Read::Samples(|scrape, samples| tables(scrape, samples, |table| table.capacity)),
    ),
    metric(
        "lb_table_memory_bytes",
        BYTES,
        &["table"],
        "Kernel memory of a table.",
        Read::Samples(|scrape, samples| tables(scrape, samples, |table| table.bytes)),
    ),
    agent(
        "lb_tables_generation",
        GAUGE,
        "Generation of the kernel tables; it grows by 1 when tables grow.",
        |scrape| Value::Count(scrape.status.dataplane.generation.into()),
    ),
];

pub(super) const AGENT: &[Metric] = &[
    metric(
        "lb_build_info",
        INFO,
        &["version"],
        "Version of the agent.",
        Read::Samples(|_, samples| {
            samples.add(&[("version", env!("CARGO_PKG_VERSION"))], Value::Fact)
        }),
    ),
    agent(
        "lb_start_time_seconds",
        SECONDS,
        "When the agent started, in seconds since 1970.",
        |scrape| {
            let started = scrape.started.duration_since(SystemTime::UNIX_EPOCH);
            Value::Number(started.unwrap_or_default().as_secs_f64())
        },
    ),
    metric(
        "lb_vips",
        GAUGE,
        &["family"],
        "VIPs that are served, by the family of their address: `ipv4` or `ipv6`.",
        Read::Samples(|scrape, samples| {
            families(scrape, samples, |vip, v6| usize::from(vip.v6 == v6))
        }),
    ),
    metric(
        "lb_reals",
        GAUGE,
        &["family"],
        "Reals by the family of their address, counted once for each VIP.",
        Read::Samples(|scrape, samples| {
            families(scrape, samples, |vip, v6| {
                let of_family = vip.reals.iter();
                of_family
                    .filter(|real| real.view.address.address.is_ipv6() == v6)
                    .count()
            })
        }),
    ),
    agent(
        "lb_unplaced_vips",
        GAUGE,
        "VIPs that are configured and not served, because the kernel tables have no room for them.",
        |scrape| count(scrape.unplaced),
    ),
    agent(
        "lb_warnings",
        GAUGE,
        "Warnings that `lbctl status` shows.",
        |scrape| count(scrape.status.warnings.len() + scrape.status.dataplane.warnings.len()),
    ),
    metric(
        "lb_changes_total",
        COUNTER,
        &["result"],
        "Changes requested by operators and programs, by result: `accepted` or `refused`.",
        Read::Samples(|scrape, samples| {
            let work = &scrape.work;
            results(
                samples,
                ("accepted", work.accepted),
                ("refused", work.refused),
            )
        }),
    ),
    agent(
        "lb_change_duration_seconds",
        DURATIONS,
        "Time from the request of a change to its answer: stored and in the kernel tables, or refused.",
        |scrape| Value::Histogram(&scrape.work.durations),
    ),
    metric(
        "lb_commits_total",
        COUNTER,
        &["result"],
        "Transactions of the agent's store, by result: `committed` or `failed`. Changes that wait together share one.",
        Read::Samples(|scrape, samples| {
            let work = &scrape.work;
            results(
                samples,
                ("committed", work.commits),
                ("failed", work.failed_commits),
            )
        }),
    ),
    agent(
        "lb_waiting_commands",
        GAUGE,
        "Commands that waited for the owner of the kernel tables when the scrape began.",
        |scrape| count(scrape.waiting),
    ),
    agent(
        "lb_scrape_duration_seconds",
        SECONDS,
        "How long the owner of the kernel tables took to collect its part of this scrape.",
        |scrape| Value::Number(scrape.took.as_secs_f64()),
    ),
];
