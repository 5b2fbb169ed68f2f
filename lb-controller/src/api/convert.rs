//! What pools look like, as messages.

use std::time::{Duration, SystemTime};

use lb_commands::command::{Command, State};
use lb_model::{project::ObjectName, settings::Settings as _};
use lb_proto::{controller::v1, settings::map_to_struct};
use lb_steering::scaling::ScalingDecision;

use crate::{
    access::{Grant, TokenRecord, UserRecord, audit::Entry},
    environments::{EnvironmentView, MemberView},
    events::Dated,
    hosts::HostView,
    orphans::Orphans,
    pool::{InstanceState, InstanceView},
    projects::{BalancerView, Condition, ProjectView, Projects, SubnetView},
    registry::Key,
    worker::PoolView,
};

/// A host.
pub fn host(view: &HostView) -> v1::Host {
    let cores = |cpu: u64| cpu as f64 / 1_000.0;
    v1::Host {
        name: view.name.to_string(),
        state: view.state.name().to_owned(),
        duty: view.duty.to_string(),
        why: view.why.clone(),
        cpu: cores(view.capacity.cpu),
        memory: view.capacity.memory,
        cpu_reserved: cores(view.used.cpu),
        memory_reserved: view.used.memory,
        instances: u32::try_from(view.instances).unwrap_or(u32::MAX),
        labels: view.labels.clone().into_iter().collect(),
        joined: view.joined.map(timestamp),
        last_seen: view.last_seen.map(timestamp),
        certificate_left: view.certificate_left.map(|left| prost_types::Duration {
            seconds: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
        from: view.from.map(|from| from.to_string()).unwrap_or_default(),
        version: view.version.clone(),
    }
}

/// What nothing refers to any more.
pub fn orphans(orphans: &Orphans) -> v1::ListOrphansResponse {
    let seconds = |time: Duration| prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    };
    let all = orphans.all().into_iter().map(|one| v1::Orphan {
        kind: one.kind.name().to_owned(),
        name: one.name,
        host: one.host,
        age: Some(seconds(one.age)),
        left: one.left.map(seconds),
    });
    v1::ListOrphansResponse {
        orphans: all.collect(),
        dry_run: orphans.grace().is_none(),
    }
}

/// A project.
pub fn project(view: &ProjectView) -> v1::Project {
    let record = &view.record;
    let ids = |list: &[(u64, ObjectName)]| {
        let ids = list.iter().map(|(id, name)| v1::ObjectId {
            id: *id,
            name: name.to_string(),
        });
        ids.collect()
    };
    v1::Project {
        id: record.id,
        name: record.name.to_string(),
        settings: Some(map_to_struct(record.spec.clone())),
        generation: record.generation,
        created: Some(timestamp(record.created)),
        deleting: record.is_deleted,
        balancers: ids(&view.balancers),
        subnets: ids(&view.subnets),
    }
}

/// A role, with the name of its project.
fn grant(grant: Grant, projects: &Projects) -> String {
    match grant.project {
        None => grant.role.to_string(),
        Some(id) => format!("{}:{}", project_name(id, projects), grant.role),
    }
}

/// The name of a project, or its id if it is gone.
fn project_name(id: u64, projects: &Projects) -> String {
    match projects.project(&Key::Id(id)) {
        Ok(view) => view.record.name.to_string(),
        Err(_) => id.to_string(),
    }
}

/// A user.
pub fn user(record: &UserRecord, projects: &Projects) -> v1::User {
    let grants = record.grants.iter();
    v1::User {
        name: record.name.clone(),
        created: Some(timestamp(record.created)),
        roles: grants.map(|one| grant(*one, projects)).collect(),
        password: !record.secrets.is_empty(),
    }
}

/// A token, without its text.
pub fn token(record: &TokenRecord, projects: &Projects) -> v1::Token {
    let name = record.project.map(|id| project_name(id, projects));
    v1::Token {
        id: record.id.clone(),
        project: name.unwrap_or_default(),
        role: record.role.to_string(),
        description: record.description.clone(),
        created: Some(timestamp(record.created)),
        expires: record.expires.map(timestamp),
    }
}

/// A line of the audit log.
pub fn audit_entry(entry: Entry) -> v1::AuditEntry {
    let since = entry.time.as_duration();
    v1::AuditEntry {
        time: Some(prost_types::Timestamp {
            seconds: since.as_secs(),
            nanos: since.subsec_nanos(),
        }),
        who: entry.who,
        from: entry.from,
        via: entry.via,
        verb: entry.verb,
        project: entry.project.unwrap_or_default(),
        object: entry.object,
        outcome: entry.outcome.name().to_owned(),
        status: entry.status,
        before: entry.before,
        after: entry.after,
        request: entry.request,
    }
}

fn condition(condition: &Condition) -> v1::Condition {
    v1::Condition {
        kind: condition.kind.to_owned(),
        value: condition.is_true,
        since: Some(timestamp(condition.since)),
        why: condition.why.clone(),
    }
}

/// A subnet.
pub fn subnet(view: &SubnetView) -> v1::Subnet {
    let (record, seen) = (&view.record, &view.seen);
    let leases = view.leases.iter().map(|lease| v1::Lease {
        id: lease.balancer,
        balancer: lease.name.to_string(),
        addresses: lease.addresses.to_string(),
        former: lease.is_former,
    });
    v1::Subnet {
        id: record.id,
        name: record.name.to_string(),
        project: view.project.clone(),
        settings: Some(map_to_struct(record.spec.clone())),
        generation: record.generation,
        observed_generation: seen.seen.observed_generation,
        created: Some(timestamp(record.created)),
        deleting: record.is_deleted,
        conditions: seen.seen.conditions.iter().map(condition).collect(),
        bridge: view.bridge.clone(),
        range: view
            .given
            .map(|range| range.to_string())
            .unwrap_or_default(),
        leases: leases.collect(),
        ports: seen.ports.clone(),
    }
}

/// A load balancer.
pub fn balancer(view: &BalancerView) -> v1::Balancer {
    let (record, seen) = (&view.record, &view.seen);
    let nodes = seen.nodes.iter().map(|node| v1::Node {
        name: node.name.to_string(),
        address: node.address.to_string(),
        serving: node.is_serving,
        state: node.state.clone(),
        host: node
            .host
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    });
    v1::Balancer {
        id: record.id,
        name: record.name.to_string(),
        project: view.project.clone(),
        settings: Some(map_to_struct(record.spec.clone())),
        generation: record.generation,
        observed_generation: seen.observed_generation,
        created: Some(timestamp(record.created)),
        deleting: record.is_deleted,
        conditions: seen.conditions.iter().map(condition).collect(),
        nodes: nodes.collect(),
        url: view.url.clone().unwrap_or_default(),
        addresses: view.addresses().iter().map(ToString::to_string).collect(),
    }
}

/// An environment.
pub fn environment(view: &EnvironmentView) -> v1::Environment {
    let environment = &view.environment;
    v1::Environment {
        id: environment.id,
        name: environment.name.clone(),
        project: view.project.clone(),
        settings: Some(map_to_struct(environment.spec.clone())),
        generation: environment.generation,
        created: Some(timestamp(environment.created)),
        state: view.state().to_owned(),
        power: environment.power.name().to_owned(),
        members: view.members.iter().map(member).collect(),
        commands: view.under_way.clone(),
        conditions: view.conditions.iter().map(condition).collect(),
        url: view.url().unwrap_or_default().to_owned(),
    }
}

fn member(view: &MemberView) -> v1::Member {
    let member = &view.member;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::Member {
        id: member.id,
        name: member.name.clone(),
        role: member.role.clone(),
        priority: member.priority,
        kind: member.kind.name().to_owned(),
        settings: Some(map_to_struct(member.settings.clone())),
        standing: member.standing.name().to_owned(),
        since: Some(timestamp(member.since)),
        why: member.why.clone(),
        object: view.object.clone(),
        serving: count(view.serving.0),
        instances: count(view.serving.1),
        state: view.state.clone(),
        url: view.url.clone().unwrap_or_default(),
        bound: view.bound.clone(),
    }
}

/// A command, with those that it waits for.
pub fn command(command: &Command, waits_for: Vec<u64>) -> v1::Command {
    let lease = command.lease.as_ref();
    let is_paused = command.state == State::Waiting && command.next_try > Duration::ZERO;
    v1::Command {
        id: command.id,
        parent: command.parent.unwrap_or_default(),
        children: command.children.clone(),
        object: command.object.clone(),
        verb: command.verb.clone(),
        arguments: Some(map_to_struct(command.arguments.clone())),
        about: command.about.clone(),
        state: command.state.name().to_owned(),
        depth: u32::try_from(command.depth()).unwrap_or(u32::MAX),
        step: command.step,
        attempts: command.attempts,
        failures: command.failures,
        created: Some(timestamp(command.created)),
        changed: Some(timestamp(command.changed)),
        deadline: Some(timestamp(command.deadline)),
        next_try: is_paused.then(|| timestamp(command.next_try)),
        worker: lease.map(|lease| lease.worker.clone()).unwrap_or_default(),
        why: command.why().to_owned(),
        log: command
            .log
            .iter()
            .map(|line| v1::CommandLine {
                time: Some(timestamp(line.time)),
                text: line.text.clone(),
            })
            .collect(),
        undo: command.is_undo,
        waits_for,
    }
}

/// A pool.
pub fn pool(view: &PoolView) -> v1::Pool {
    v1::Pool {
        name: view.name.to_string(),
        settings: Some(map_to_struct(view.spec.to_map())),
        generation: view.generation,
        deleting: view.is_deleted,
        instances: view.instances.iter().map(instance).collect(),
        desired: view.decision.as_ref().map(|decision| decision.desired),
        troubles: view.troubles.clone(),
        owner: view.owner.name().to_owned(),
        power: view.power.name().to_owned(),
        low: view.thresholds.low,
        high: view.thresholds.high,
    }
}

fn instance(view: &InstanceView) -> v1::Instance {
    v1::Instance {
        name: view.name.clone(),
        number: view.number,
        endpoint: view
            .endpoint
            .map(|endpoint| endpoint.to_string())
            .unwrap_or_default(),
        state: state(view.state).into(),
        phase: view.phase.clone(),
        role: view.role.to_string(),
        since: Some(timestamp(view.since)),
        reason: view.reason.clone(),
        doing: view.doing.unwrap_or_default().to_owned(),
        utilisation: view.score.and_then(|score| score.cpu),
        current: view.is_current,
        host: view
            .host
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        score: view.score.map(|score| v1::Score {
            cpu: score.cpu,
            memory: score.memory,
            network: score.network,
            availability: score.availability,
            overall: score.overall,
            response: score.inputs.response,
            usual_response: score.inputs.usual_response,
            probes: score.inputs.probes,
        }),
    }
}

const fn state(state: InstanceState) -> v1::InstanceState {
    match state {
        InstanceState::Init => v1::InstanceState::Init,
        InstanceState::Low => v1::InstanceState::Lu,
        InstanceState::Medium => v1::InstanceState::Mu,
        InstanceState::High => v1::InstanceState::Hu,
        InstanceState::Sundown => v1::InstanceState::Sundown,
        InstanceState::Spare => v1::InstanceState::Spare,
        InstanceState::Failed => v1::InstanceState::Failed,
    }
}

fn timestamp(since: Duration) -> prost_types::Timestamp {
    (SystemTime::UNIX_EPOCH + since).into()
}

/// An event.
pub fn event(event: &Dated) -> v1::Event {
    v1::Event {
        revision: event.revision,
        time: Some(event.time.into()),
        pool: event
            .pool
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        instance: event
            .event
            .instance
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        kind: event.event.kind.to_owned(),
        text: event.event.text.clone(),
        alarm: event.event.is_alarm,
    }
}

/// A decision.
pub fn decision(decision: &ScalingDecision) -> v1::Decision {
    let why = &decision.why;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    v1::Decision {
        text: decision.to_string(),
        desired: decision.desired,
        active: why.active,
        starting: why.starting,
        draining: why.draining,
        dead: why.dead,
        spare: why.spare,
        floor: why.floor,
        average_load: why.average_load,
        critical: why.critical.clone(),
        asks: why
            .asks
            .iter()
            .map(|ask| v1::Ask {
                policy: ask.policy.to_string(),
                instances: ask.instances,
                need: ask.figures.map(|figures| figures.need()),
                highest: ask.figures.map(|figures| figures.highest / figures.each),
                missing: ask
                    .missing
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            })
            .collect(),
        decided_by: why.decided_by.to_string(),
        limits: why.limits.iter().map(ToString::to_string).collect(),
        since_out: seconds(why.since_out),
        since_in: seconds(why.since_in),
        alarm: decision
            .alarm
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    }
}
