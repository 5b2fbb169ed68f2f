//! The metrics of a controller: its families, and the samples of a scrape.

use std::{collections::BTreeMap, fmt};

use lb_commands::command::State as CommandState;
use lb_serve::metrics::{Family, Kind, Samples, Snapshot, Unit, Value, Writer};

use crate::{
    access::Access,
    controller::Controller,
    hosts::{HostState, HostView},
    orphans::OrphanKind,
    pool::{InstanceState, InstanceView, place},
    projects::Projects,
    queue::Commands,
    worker::PoolView,
};

/// What a family's samples are of.
enum Of {
    /// The controller.
    Controller(fn(&Metrics, &mut Samples<'_>) -> fmt::Result),
    /// Each pool.
    Pool(fn(&PoolView, &mut Samples<'_>) -> fmt::Result),
    /// Each instance that has scores.
    Instance(fn(&InstanceView) -> Option<f64>),
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

const POOL: &[&str] = &["pool"];
const STATE: &[&str] = &["state"];
const KIND: &[&str] = &["kind"];
const HOST: &[&str] = &["host"];
const POOL_STATE: &[&str] = &["pool", "state"];
const POOL_KIND: &[&str] = &["pool", "kind"];
const AGENT: &[&str] = &["agent"];
const INSTANCE: &[&str] = &["pool", "instance"];

/// A figure of a pool's last decision.
fn decided(
    view: &PoolView,
    samples: &mut Samples<'_>,
    figure: impl FnOnce(&lb_steering::scaling::ScalingDecision) -> Option<f64>,
) -> fmt::Result {
    match view.decision.as_ref().and_then(figure) {
        Some(figure) => samples.add(&[("pool", view.name.as_str())], Value::Number(figure)),
        None => Ok(()),
    }
}

const ROWS: &[Row] = &[
    row(
        "lb_controller_pools",
        Kind::Gauge,
        None,
        &[],
        "Pools, including those that are being deleted.",
        Of::Controller(|metrics, samples| {
            samples.add(&[], Value::Count(metrics.pools.len() as u64))
        }),
    ),
    row(
        "lb_controller_store_up",
        Kind::Gauge,
        None,
        &[],
        "1 if the store took the last write, 0 if it is away.",
        Of::Controller(|metrics, samples| {
            samples.add(&[], Value::Count(u64::from(metrics.is_stored)))
        }),
    ),
    row(
        "lb_controller_warnings",
        Kind::Gauge,
        None,
        &[],
        "What is wrong with the controller as a whole, by number; `lbctl pool list` has the words.",
        Of::Controller(|metrics, samples| samples.add(&[], Value::Count(metrics.warnings as u64))),
    ),
    row(
        "lb_controller_agent_up",
        Kind::Gauge,
        None,
        AGENT,
        "1 if the last call to an agent was answered, 0 if it cannot be reached or refuses all calls.",
        Of::Controller(|metrics, samples| {
            metrics.agents.iter().try_for_each(|(agent, is_up, _)| {
                samples.add(&[("agent", agent)], Value::Count(u64::from(*is_up)))
            })
        }),
    ),
    row(
        "lb_controller_agent_refused_reals",
        Kind::Gauge,
        None,
        AGENT,
        "VIPs that an agent does not have, and reals that it refuses, as pools want them.",
        Of::Controller(|metrics, samples| {
            metrics.agents.iter().try_for_each(|(agent, _, refused)| {
                samples.add(&[("agent", agent)], Value::Count(*refused as u64))
            })
        }),
    ),
    row(
        "lb_controller_events_total",
        Kind::Counter,
        None,
        POOL_KIND,
        "Events by pool and kind: launched, healthy, scaled, relaunched, replaced, ended, removed, failed, panicked, trouble \
         and others. Events of the controller as a whole have no pool.",
        Of::Controller(|metrics, samples| {
            for ((pool, kind), count) in &metrics.events {
                let pool = pool.as_ref().map_or("", lb_model::pool::PoolName::as_str);
                let labels = [("pool", pool), ("kind", *kind)];
                samples.add(&labels, Value::Count(*count))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_controller_projects",
        Kind::Gauge,
        None,
        &[],
        "Projects.",
        Of::Controller(|metrics, samples| samples.add(&[], Value::Count(metrics.projects as u64))),
    ),
    row(
        "lb_controller_balancers",
        Kind::Gauge,
        None,
        STATE,
        "Load balancers of all projects by state: pending, serving, changing (a node serves, and not all do by the newest \
         settings) or deleting.",
        Of::Controller(|metrics, samples| {
            metrics.balancers.iter().try_for_each(|(state, count)| {
                samples.add(&[("state", state)], Value::Count(*count as u64))
            })
        }),
    ),
    row(
        "lb_controller_orphans",
        Kind::Gauge,
        None,
        KIND,
        "What nothing refers to any more by kind: instance, bridge, pool or folder. It is removed after collector.grace, unless \
         collector.dry_run is set.",
        Of::Controller(|metrics, samples| {
            metrics.orphans.iter().try_for_each(|(kind, count, _)| {
                samples.add(&[("kind", kind.name())], Value::Count(*count as u64))
            })
        }),
    ),
    row(
        "lb_controller_orphans_removed_total",
        Kind::Counter,
        None,
        KIND,
        "What nothing referred to any more and was removed, by kind.",
        Of::Controller(|metrics, samples| {
            metrics.orphans.iter().try_for_each(|(kind, _, removed)| {
                samples.add(&[("kind", kind.name())], Value::Count(*removed))
            })
        }),
    ),
    row(
        "lb_controller_commands",
        Kind::Gauge,
        None,
        STATE,
        "Commands of the queue that are kept, by state; those that have ended are kept for a while.",
        Of::Controller(|metrics, samples| {
            metrics.commands.iter().try_for_each(|(state, count)| {
                samples.add(&[("state", state.name())], Value::Count(*count as u64))
            })
        }),
    ),
    row(
        "lb_controller_hosts",
        Kind::Gauge,
        None,
        STATE,
        "Hosts by state: up, cordoned, draining, silent (not connected) or lost. The controller's own is up.",
        Of::Controller(|metrics, samples| {
            HostState::ALL.iter().try_for_each(|state| {
                let count = metrics.hosts.iter().filter(|host| host.state == *state);
                samples.add(
                    &[("state", state.name())],
                    Value::Count(count.count() as u64),
                )
            })
        }),
    ),
    row(
        "lb_host_up",
        Kind::Gauge,
        None,
        HOST,
        "1 if a host is connected, 0 if it is silent or lost.",
        Of::Controller(|metrics, samples| {
            metrics.hosts.iter().try_for_each(|host| {
                let is_up = !matches!(host.state, HostState::Silent | HostState::Lost);
                let labels = [("host", host.name.as_str())];
                samples.add(&labels, Value::Count(u64::from(is_up)))
            })
        }),
    ),
    row(
        "lb_host_certificate_seconds",
        Kind::Gauge,
        Some(Unit::Seconds),
        HOST,
        "How long a host's certificate lasts; it is renewed by itself when half of `hosts.certificate_lifetime` is over. There is \
         none while the host is not connected.",
        Of::Controller(|metrics, samples| {
            metrics
                .hosts
                .iter()
                .try_for_each(|host| match host.certificate_left {
                    Some(left) => {
                        let labels = [("host", host.name.as_str())];
                        samples.add(&labels, Value::Number(left.as_secs_f64()))
                    }
                    None => Ok(()),
                })
        }),
    ),
    row(
        "lb_controller_failed_logins_total",
        Kind::Counter,
        None,
        &["reason"],
        "Callers that did not prove who they say they are, by reason: malformed, token, password or replay.",
        Of::Controller(|metrics, samples| {
            metrics
                .failed_logins
                .iter()
                .try_for_each(|(reason, count)| {
                    samples.add(&[("reason", reason)], Value::Count(*count))
                })
        }),
    ),
    row(
        "lb_host_reserved_ratio",
        Kind::Gauge,
        Some(Unit::Ratio),
        &["host", "resource"],
        "The part of a host's cpu and memory that is reserved.",
        Of::Controller(|metrics, samples| {
            metrics.hosts.iter().try_for_each(|host| {
                for (resource, used, of) in [
                    ("cpu", host.used.cpu, host.capacity.cpu),
                    ("memory", host.used.memory, host.capacity.memory),
                ] {
                    let labels = [("host", host.name.as_str()), ("resource", resource)];
                    samples.add(&labels, Value::Number(used as f64 / of.max(1) as f64))?;
                }
                Ok(())
            })
        }),
    ),
    row(
        "lb_controller_subnets",
        Kind::Gauge,
        None,
        STATE,
        "Subnets of all projects by state: pending (the bridge is not as it is wanted), ready or deleting.",
        Of::Controller(|metrics, samples| {
            metrics.subnets.iter().try_for_each(|(state, count)| {
                samples.add(&[("state", state)], Value::Count(*count as u64))
            })
        }),
    ),
    row(
        "lb_controller_audit_entries_total",
        Kind::Counter,
        None,
        &["result"],
        "Entries of the audit log that were written, and lost because its disk was full for long.",
        Of::Controller(|metrics, samples| {
            let (written, lost) = metrics.audit;
            samples.add(&[("result", "written")], Value::Count(written))?;
            samples.add(&[("result", "lost")], Value::Count(lost))
        }),
    ),
    row(
        "lb_controller_audit_up",
        Kind::Gauge,
        None,
        &[],
        "1 if the audit log can be written, 0 if its entries wait for room on the disk.",
        Of::Controller(|metrics, samples| {
            samples.add(&[], Value::Count(u64::from(metrics.is_audited)))
        }),
    ),
    row(
        "lb_dns_messages_total",
        Kind::Counter,
        None,
        &["kind"],
        "What the server of DNS has received, answered and refused, by kind; there is none without `dns.listen`.",
        Of::Controller(|metrics, samples| {
            metrics
                .dns
                .iter()
                .try_for_each(|(kind, count)| samples.add(&[("kind", kind)], Value::Count(*count)))
        }),
    ),
    row(
        "lb_pool_instances",
        Kind::Gauge,
        None,
        POOL_STATE,
        "Instances of a pool by state.",
        Of::Pool(|view, samples| {
            for state in InstanceState::ALL {
                let count = view.instances.iter().filter(|one| one.state == *state);
                let labels = [("pool", view.name.as_str()), ("state", state.name())];
                samples.add(&labels, Value::Count(count.count() as u64))?;
            }
            Ok(())
        }),
    ),
    row(
        "lb_pool_outdated_instances",
        Kind::Gauge,
        None,
        POOL,
        "Instances that were made by other settings than the present ones.",
        Of::Pool(|view, samples| {
            let count = view.instances.iter().filter(|one| !one.is_current).count();
            let labels = [("pool", view.name.as_str())];
            samples.add(&labels, Value::Count(count as u64))
        }),
    ),
    row(
        "lb_pool_desired_instances",
        Kind::Gauge,
        None,
        POOL,
        "Instances that are to serve, as last decided.",
        Of::Pool(|view, samples| {
            decided(view, samples, |decision| Some(f64::from(decision.desired)))
        }),
    ),
    row(
        "lb_pool_asked_instances",
        Kind::Gauge,
        None,
        POOL,
        "The most instances that a policy asks for, whatever `scaling.max` and the driver's room allow.",
        Of::Pool(|view, samples| {
            decided(view, samples, |decision| {
                let asks = decision.why.asks.iter();
                asks.filter_map(|ask| ask.instances).max().map(f64::from)
            })
        }),
    ),
    row(
        "lb_pool_average_load_ratio",
        Kind::Gauge,
        Some(Unit::Ratio),
        POOL,
        "Mean utilisation of the instances that serve, as far as it is known.",
        Of::Pool(|view, samples| decided(view, samples, |decision| decision.why.average_load)),
    ),
    row(
        "lb_pool_alarm",
        Kind::Gauge,
        None,
        POOL,
        "1 if so many instances are dead that none is killed.",
        Of::Pool(|view, samples| {
            let is_alarm = |decision: &lb_steering::scaling::ScalingDecision| {
                Some(f64::from(u8::from(decision.alarm.is_some())))
            };
            decided(view, samples, is_alarm)
        }),
    ),
    row(
        "lb_pool_troubles",
        Kind::Gauge,
        None,
        POOL,
        "What is wrong with a pool, by number; `lbctl pool list` has the words.",
        Of::Pool(|view, samples| {
            let labels = [("pool", view.name.as_str())];
            samples.add(&labels, Value::Count(view.troubles.len() as u64))
        }),
    ),
    row(
        "lb_instance_score_ratio",
        Kind::Gauge,
        Some(Unit::Ratio),
        INSTANCE,
        "The overall score of an instance that serves: 0 is free, 1 is full or not available.",
        Of::Instance(|view| view.score.map(|score| score.overall)),
    ),
    row(
        "lb_instance_availability_ratio",
        Kind::Gauge,
        Some(Unit::Ratio),
        INSTANCE,
        "The availability of an instance that serves, by its probes.",
        Of::Instance(|view| view.score.map(|score| score.availability)),
    ),
];

/// Values at one time.
#[derive(Debug)]
pub struct Metrics {
    pools: Vec<PoolView>,
    is_stored: bool,
    warnings: usize,
    /// Each agent with whether it can be reached, and the reals that it refuses.
    agents: Vec<(String, bool, usize)>,
    events: Vec<((Option<lb_model::pool::PoolName>, &'static str), u64)>,
    projects: usize,
    hosts: Vec<HostView>,
    /// Load balancers by state.
    balancers: BTreeMap<&'static str, usize>,
    /// Subnets by state.
    subnets: BTreeMap<&'static str, usize>,
    dns: Vec<(&'static str, u64)>,
    commands: Vec<(CommandState, usize)>,
    orphans: Vec<(OrphanKind, usize, u64)>,
    /// Proofs that failed, by reason.
    failed_logins: Vec<(&'static str, u64)>,
    /// Entries of the audit log that were written, and lost.
    audit: (u64, u64),
    is_audited: bool,
}

impl Metrics {
    /// Those of a controller.
    #[must_use]
    pub fn take(
        controller: &Controller,
        projects: &Projects,
        commands: &Commands,
        access: &Access,
    ) -> Self {
        let dns = projects.dns_counts();
        let subnets = projects.subnet_counts();
        let (projects, balancers) = projects.counts();
        Metrics {
            hosts: controller.hosts().views(),
            projects,
            balancers,
            subnets,
            failed_logins: access.failures(),
            audit: access.audit().counts(),
            is_audited: access.audit().trouble().is_none(),
            commands: commands.counts(),
            orphans: controller.orphans().counts(),
            dns: dns.map(|counts| counts.named()).unwrap_or_default(),
            // Without a name nothing is refused.
            pools: controller.views(None).unwrap_or_default(),
            is_stored: controller.is_stored(),
            warnings: controller.warnings().len(),
            agents: controller
                .agents()
                .states()
                .into_iter()
                .map(|(endpoint, state)| {
                    let refused = state.refused.len();
                    (endpoint.to_string(), state.trouble.is_none(), refused)
                })
                .collect(),
            events: controller.events().counts(),
        }
    }
}

/// The families, in the order in which they are served.
pub fn families() -> impl Iterator<Item = &'static Family> {
    ROWS.iter().map(|row| &row.family)
}

impl Snapshot for Metrics {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        for Row { family, of } in ROWS {
            writer.family(family, |samples| match of {
                Of::Controller(add) => add(self, samples),
                Of::Pool(add) => self.pools.iter().try_for_each(|view| add(view, samples)),
                Of::Instance(figure) => {
                    for view in &self.pools {
                        for one in &view.instances {
                            if let Some(figure) = figure(one) {
                                // Its place, which its successors have as well.
                                let place = place(&view.name, one.number);
                                let labels =
                                    [("pool", view.name.as_str()), ("instance", place.as_str())];
                                samples.add(&labels, Value::Number(figure))?;
                            }
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
    fn every_family_keeps_the_rules() {
        for family in families() {
            rules::check(family).unwrap();
        }
    }
}
