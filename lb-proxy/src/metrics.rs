//! The metrics of a proxy: its families, and the samples of a scrape. No label names a host, a path or a client.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use lb_serve::metrics::{Family, Kind, Samples, Snapshot, Unit, Value, Writer};

use crate::{
    cache::Cache,
    proxy::{Running, Shared},
    service::{Entry, Fault, Probed, Service, State},
    trouble,
};

/// What a family's samples are of.
enum Of {
    /// The proxy.
    Proxy(fn(&Shared, &mut Samples<'_>) -> fmt::Result),
    /// Each service.
    Service(fn(&Service, &mut Samples<'_>) -> fmt::Result),
    /// Each instance of each service, with its labels.
    Instance(fn(&Entry, &[(&'static str, &str)], &mut Samples<'_>) -> fmt::Result),
}

struct Row {
    family: Family,
    of: Of,
}

const fn row(
    name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    help: &'static str,
    of: Of,
) -> Row {
    Row {
        family: Family {
            name,
            kind,
            unit,
            labels,
            help,
        },
        of,
    }
}

fn count(counter: &AtomicU64) -> Value<'static> {
    Value::Count(counter.load(Relaxed))
}

/// A value of the service's cache, if it has one.
fn of_cache(
    service: &Service,
    samples: &mut Samples<'_>,
    value: impl FnOnce(&Cache) -> Value<'static>,
) -> fmt::Result {
    match service.cache.load_full() {
        Some(cache) => samples.add(&[("service", &service.name)], value(&cache)),
        None => Ok(()),
    }
}

const SERVICE: &[&str] = &["service"];
const SERVICE_RESULT: &[&str] = &["service", "result"];
const INSTANCE: &[&str] = &["service", "real"];
const INSTANCE_REASON: &[&str] = &["service", "real", "reason"];
const RESULT: &[&str] = &["result"];
const REASON: &[&str] = &["reason"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

const ROWS: &[Row] = &[
    row(
        "lb_proxy_connections_total",
        Kind::Counter,
        None,
        &[],
        "Connections of clients that were accepted.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.connections))),
    ),
    row(
        "lb_proxy_open_connections",
        Kind::Gauge,
        None,
        &[],
        "Connections of clients that are open.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.open_connections))),
    ),
    row(
        "lb_proxy_parked_connections",
        Kind::Gauge,
        None,
        &[],
        "Those of these over HTTP/1.1 that have been idle for a second, and have no buffers until they go on.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.parked_connections))),
    ),
    row(
        "lb_proxy_failed_connections_total",
        Kind::Counter,
        None,
        &[],
        "Connections whose TLS handshake or PROXY header failed.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.failed_connections))),
    ),
    row(
        "lb_proxy_open_requests",
        Kind::Gauge,
        None,
        &[],
        "Requests that wait for the head of their answer.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.open))),
    ),
    row(
        "lb_proxy_answers_total",
        Kind::Counter,
        None,
        RESULT,
        "Answers to clients by the class of their status.",
        Of::Proxy(|shared, samples| {
            for (class, counter) in CLASSES.iter().zip(&shared.totals.answers) {
                samples.add(&[("result", class)], count(counter))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_proxy_health_answers_total",
        Kind::Counter,
        None,
        &[],
        "Answers to requests for the `health_path` of a listener, which count nowhere else.",
        Of::Proxy(|shared, samples| samples.add(&[], count(&shared.totals.health_answers))),
    ),
    row(
        "lb_proxy_dropped_log_lines_total",
        Kind::Counter,
        None,
        &[],
        "Lines of the access log that were dropped because they could not be written, or not in time.",
        Of::Proxy(|shared, samples| samples.add(&[], Value::Count(shared.log.dropped()))),
    ),
    row(
        "lb_proxy_own_troubles_total",
        Kind::Counter,
        None,
        REASON,
        "Times that the proxy or its host, and no client or instance, was at fault.",
        Of::Proxy(|shared, samples| {
            for kind in trouble::Kind::ALL {
                let count = Value::Count(shared.troubles.count(kind));
                samples.add(&[("reason", kind.name())], count)?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_proxy_warnings",
        Kind::Gauge,
        None,
        &[],
        "Warnings of `lbctl http list`.",
        Of::Proxy(|shared, samples| samples.add(&[], Value::Count(shared.warnings().len() as u64))),
    ),
    row(
        "lb_proxy_reload_refused",
        Kind::Gauge,
        None,
        &[],
        "1 if the configuration could not be followed when it was read last.",
        Of::Proxy(|shared, samples| {
            samples.add(&[], Value::Count(shared.refused().is_some().into()))
        }),
    ),
    row(
        "lb_proxy_draining",
        Kind::Gauge,
        None,
        &[],
        "1 if the proxy ends or hands over to the next one.",
        Of::Proxy(|shared, samples| samples.add(&[], Value::Count(shared.is_draining().into()))),
    ),
    row(
        "lb_service_eligible_instances",
        Kind::Gauge,
        None,
        SERVICE,
        "Instances that requests may go to.",
        Of::Service(|service, samples| {
            let eligible = Value::Count(service.eligible() as u64);
            samples.add(&[("service", &service.name)], eligible)
        }),
    ),
    row(
        "lb_service_source_lost_seconds",
        Kind::Gauge,
        Some(Unit::Seconds),
        SERVICE,
        "Time since the source of the instances could be followed; 0 while it can be.",
        Of::Service(|service, samples| {
            let lost = service.source.seen().lost;
            let seconds = lost.map_or(0.0, |(time, _)| time.as_secs_f64());
            samples.add(&[("service", &service.name)], Value::Number(seconds))
        }),
    ),
    row(
        "lb_service_checks_total",
        Kind::Counter,
        None,
        SERVICE_RESULT,
        "Probes of the health check of a service's instances, by what they found.",
        Of::Service(|service, samples| {
            if service.settings.load().check.is_none() {
                return Ok(());
            }
            for (result, counter) in Probed::ALL.iter().zip(&service.probes) {
                let labels = [
                    ("service", service.name.as_str()),
                    ("result", result.name()),
                ];
                samples.add(&labels, count(counter))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_service_lookups_total",
        Kind::Counter,
        None,
        SERVICE_RESULT,
        "Look-ups of the names that a service has as members, by whether they could be resolved.",
        Of::Service(|service, samples| {
            if service.names().is_empty() {
                return Ok(());
            }
            for (result, counter) in ["resolved", "failed"].iter().zip(&service.lookups) {
                let labels = [("service", service.name.as_str()), ("result", result)];
                samples.add(&labels, count(counter))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_service_unresolved_names",
        Kind::Gauge,
        None,
        SERVICE,
        "Names that a service has as members and that cannot be resolved; their last addresses are kept.",
        Of::Service(|service, samples| {
            let names = service.names();
            let lost = names.iter().filter(|(_, known)| known.failed.is_some());
            let lost = Value::Count(lost.count() as u64);
            samples.add(&[("service", &service.name)], lost)
        }),
    ),
    row(
        "lb_service_retries_total",
        Kind::Counter,
        None,
        SERVICE,
        "Requests that were offered to another instance.",
        Of::Service(|service, samples| {
            samples.add(&[("service", &service.name)], count(&service.retries))
        }),
    ),
    row(
        "lb_service_unserved_requests_total",
        Kind::Counter,
        None,
        SERVICE,
        "Requests for which there was no instance.",
        Of::Service(|service, samples| {
            samples.add(&[("service", &service.name)], count(&service.unserved))
        }),
    ),
    row(
        "lb_service_cache_requests_total",
        Kind::Counter,
        None,
        SERVICE_RESULT,
        "Requests by what the cache had for them.",
        Of::Service(|service, samples| {
            let Some(cache) = service.cache.load_full() else {
                return Ok(());
            };
            let results = &cache.results;
            for (result, counter) in [
                ("hit", &results.hits),
                ("miss", &results.misses),
                ("validated", &results.validated),
                ("stale", &results.stale),
            ] {
                let labels = [("service", service.name.as_str()), ("result", result)];
                samples.add(&labels, count(counter))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_service_cache_objects",
        Kind::Gauge,
        None,
        SERVICE,
        "Answers in the cache.",
        Of::Service(|service, samples| {
            of_cache(service, samples, |cache| Value::Count(cache.used().0))
        }),
    ),
    row(
        "lb_service_cache_bytes",
        Kind::Gauge,
        Some(Unit::Bytes),
        SERVICE,
        "Memory that the answers in the cache take.",
        Of::Service(|service, samples| {
            of_cache(service, samples, |cache| Value::Count(cache.used().1))
        }),
    ),
    row(
        "lb_service_cache_evictions_total",
        Kind::Counter,
        None,
        SERVICE,
        "Answers that had to go from the cache for others.",
        Of::Service(|service, samples| {
            of_cache(service, samples, |cache| count(&cache.totals().evicted))
        }),
    ),
    row(
        "lb_instance_requests_total",
        Kind::Counter,
        None,
        INSTANCE,
        "Requests that were sent to the instance.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, count(&entry.instance.totals.requests))
        }),
    ),
    row(
        "lb_instance_failures_total",
        Kind::Counter,
        None,
        INSTANCE_REASON,
        "Requests that the instance failed, by what went wrong.",
        Of::Instance(|entry, labels, samples| {
            for (fault, counter) in Fault::ALL.iter().zip(&entry.instance.totals.faults) {
                let labels = [labels[0], labels[1], ("reason", fault.name())];
                samples.add(&labels, count(counter))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_instance_answers_total",
        Kind::Counter,
        None,
        INSTANCE,
        "Answers of the instance.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, count(&entry.instance.totals.answers))
        }),
    ),
    row(
        "lb_instance_answer_seconds_total",
        Kind::Counter,
        Some(Unit::Seconds),
        INSTANCE,
        "Time until the heads of the instance's answers.",
        Of::Instance(|entry, labels, samples| {
            let microseconds = entry.instance.totals.latency.load(Relaxed);
            samples.add(labels, Value::Number(microseconds as f64 / 1e6))
        }),
    ),
    row(
        "lb_instance_latency_seconds",
        Kind::Gauge,
        Some(Unit::Seconds),
        INSTANCE,
        "Latency as the choice sees it: it rises at once and falls slowly.",
        Of::Instance(|entry, labels, samples| match entry.instance.latency() {
            Some(latency) => samples.add(labels, Value::Number(latency)),
            None => Ok(()),
        }),
    ),
    row(
        "lb_instance_pending_requests",
        Kind::Gauge,
        None,
        INSTANCE,
        "Requests that the instance has not answered completely.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, Value::Count(entry.instance.pending().into()))
        }),
    ),
    row(
        "lb_instance_connections_total",
        Kind::Counter,
        None,
        INSTANCE,
        "Connections that were made to the instance.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, count(&entry.instance.totals.connections))
        }),
    ),
    row(
        "lb_instance_weight",
        Kind::Gauge,
        None,
        INSTANCE,
        "Weight that the source of the instances gives it.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, Value::Count(entry.member.weight.into()))
        }),
    ),
    row(
        "lb_instance_up",
        Kind::Gauge,
        None,
        INSTANCE,
        "1 if the instance gets requests, as its source and its health check say.",
        Of::Instance(|entry, labels, samples| {
            let is_up = entry.state() == State::Up;
            samples.add(labels, Value::Count(is_up.into()))
        }),
    ),
    row(
        "lb_instance_ejected",
        Kind::Gauge,
        None,
        INSTANCE,
        "1 if the instance is left out for a while because it failed.",
        Of::Instance(|entry, labels, samples| {
            samples.add(labels, Value::Count(entry.instance.is_ejected().into()))
        }),
    ),
];

/// Returns all families.
pub fn families() -> impl Iterator<Item = &'static Family> {
    ROWS.iter().map(|row| &row.family)
}

/// The metrics at the moment of a scrape.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    running: Arc<Running>,
    entries: Vec<(Arc<Service>, Vec<Entry>)>,
}

impl Metrics {
    /// Takes them.
    #[must_use]
    pub fn take(shared: &Arc<Shared>) -> Self {
        let running = shared.running.load_full();
        let entries = running
            .services
            .values()
            .map(|service| (Arc::clone(service), service.entries()))
            .collect();
        Metrics {
            shared: Arc::clone(shared),
            running,
            entries,
        }
    }
}

impl Snapshot for Metrics {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        for row in ROWS {
            writer.family(&row.family, |samples| match &row.of {
                Of::Proxy(write) => write(&self.shared, samples),
                Of::Service(write) => self
                    .running
                    .services
                    .values()
                    .try_for_each(|service| write(service, samples)),
                Of::Instance(write) => {
                    for (service, entries) in &self.entries {
                        for entry in entries {
                            let address = entry.instance.address.to_string();
                            let labels = [("service", service.name.as_str()), ("real", &address)];
                            write(entry, &labels, samples)?;
                        }
                    }
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lb_serve::metrics::rules;

    use super::*;

    #[test]
    fn families_follow_the_rules() {
        for family in families() {
            rules::check(family).unwrap();
        }
        let per_instance: usize = ROWS
            .iter()
            .filter(|row| matches!(row.of, Of::Instance(_)))
            .map(|row| match row.family.labels {
                [.., "reason"] => Fault::ALL.len(),
                _ => 1,
            })
            .sum();
        assert!(per_instance <= rules::MAX_SERIES_PER_REAL);
    }
}
