//! Pools and their instances.

use std::fmt::Write as _;

use lb_model::{
    host::HostName,
    settings::{Map, Value},
};
use lb_proto::{
    controller::v1::{self, watch_pools_response::Change},
    settings::struct_to_map,
};
use serde::Serialize;

use super::{
    Human,
    table::{Column, layout, percent},
};

/// A pool.
#[derive(Debug, Serialize)]
pub struct Pool {
    name: String,
    settings: Map<String, Value>,
    generation: u64,
    owner: String,
    deleting: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    desired: Option<u32>,
    instances: Vec<Instance>,
    troubles: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Instance {
    name: String,
    number: u32,
    endpoint: String,
    state: &'static str,
    phase: String,
    role: String,
    reason: String,
    host: String,
    doing: String,
    current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Score>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Score {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<f64>,
    availability: f64,
    overall: f64,
}

/// The name of a state.
const fn state(state: v1::InstanceState) -> &'static str {
    match state {
        v1::InstanceState::Unspecified => "?",
        v1::InstanceState::Init => "INIT",
        v1::InstanceState::Lu => "LU",
        v1::InstanceState::Mu => "MU",
        v1::InstanceState::Hu => "HU",
        v1::InstanceState::Sundown => "SUNDOWN",
        v1::InstanceState::Spare => "SPARE",
        v1::InstanceState::Failed => "FAILED",
    }
}

impl From<&v1::Instance> for Instance {
    fn from(instance: &v1::Instance) -> Self {
        Instance {
            name: instance.name.clone(),
            number: instance.number,
            endpoint: instance.endpoint.clone(),
            state: state(instance.state()),
            phase: instance.phase.clone(),
            role: instance.role.clone(),
            reason: instance.reason.clone(),
            host: instance.host.clone(),
            doing: instance.doing.clone(),
            current: instance.current,
            score: instance.score.map(|score| Score {
                cpu: score.cpu,
                memory: score.memory,
                network: score.network,
                availability: score.availability,
                overall: score.overall,
            }),
        }
    }
}

impl From<&v1::Pool> for Pool {
    fn from(pool: &v1::Pool) -> Self {
        Pool {
            name: pool.name.clone(),
            settings: pool.settings.clone().map(struct_to_map).unwrap_or_default(),
            generation: pool.generation,
            owner: pool.owner.clone(),
            deleting: pool.deleting,
            desired: pool.desired,
            instances: pool.instances.iter().map(Instance::from).collect(),
            troubles: pool.troubles.clone(),
        }
    }
}

impl Pool {
    fn serving(&self) -> usize {
        let serves = |one: &&Instance| matches!(one.state, "LU" | "MU" | "HU");
        self.instances.iter().filter(serves).count()
    }

    fn head(&self) -> String {
        let setting = |path: &[&str]| {
            let mut value = self.settings.get(path[0])?;
            for name in &path[1..] {
                value = value.get(name)?;
            }
            Some(lb_model::settings::plain(value))
        };
        let mut text = format!(
            "{}: {} serving, {} desired, {} to {}, driver {}",
            self.name,
            self.serving(),
            self.desired
                .map_or_else(|| "?".to_owned(), |desired| desired.to_string()),
            setting(&["scaling", "min"]).unwrap_or_default(),
            setting(&["scaling", "max"]).unwrap_or_default(),
            setting(&["driver", "kind"]).unwrap_or_default(),
        );
        if self.owner == "file" {
            text.push_str(", of the configuration file");
        }
        if self.deleting {
            text.push_str(", being deleted");
        }
        text.push('\n');
        for trouble in &self.troubles {
            let _ = writeln!(text, "  ! {trouble}");
        }
        text
    }

    fn table(&self, is_wide: bool) -> String {
        const HOST: Column = ("HOST", false);
        const NARROW: [Column; 6] = [
            ("INSTANCE", false),
            ("STATE", false),
            ("ENDPOINT", false),
            ("SCORE", true),
            ("PHASE", false),
            ("REASON", false),
        ];
        if self.instances.is_empty() {
            return String::new();
        }
        // As long as all are on the controller's own host it is not worth a column.
        let has_hosts = self
            .instances
            .iter()
            .any(|one| !one.host.is_empty() && one.host != HostName::LOCAL);
        let rows = self.instances.iter().map(|one| {
            let reason = match (one.doing.as_str(), one.reason.as_str()) {
                ("", reason) => reason.to_owned(),
                (doing, "") => doing.to_owned(),
                (doing, reason) if is_wide => format!("{doing}; {reason}"),
                (doing, _) => doing.to_owned(),
            };
            let host = has_hosts.then(|| one.host.clone());
            let age = if one.current { "" } else { " (old settings)" };
            let mut row = vec![
                one.name.clone(),
                one.state.to_owned(),
                one.endpoint.clone(),
                one.score
                    .map(|score| format!("{:.2}", score.overall))
                    .unwrap_or_default(),
                format!("{}{age}", one.phase),
                reason,
            ];
            row.splice(1..1, host);
            row
        });
        let mut columns = NARROW.to_vec();
        columns.splice(1..1, has_hosts.then_some(HOST));
        layout(&columns, rows)
    }
}

impl Human for Pool {
    fn human(&self) -> String {
        self.head() + &self.table(false)
    }
}

/// Pools.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Pools {
    pools: Vec<Pool>,
    #[serde(skip)]
    warnings: Vec<String>,
    #[serde(skip)]
    is_wide: bool,
}

impl Pools {
    /// Those of an answer.
    pub fn new(answer: &v1::ListPoolsResponse, is_wide: bool) -> Self {
        Pools {
            pools: answer.pools.iter().map(Pool::from).collect(),
            warnings: answer.warnings.clone(),
            is_wide,
        }
    }
}

impl Human for Pools {
    fn human(&self) -> String {
        let mut warnings = String::new();
        for warning in &self.warnings {
            let _ = writeln!(warnings, "! {warning}");
        }
        if self.pools.is_empty() {
            return warnings + "there are no pools; `lbctl pool add` adds one\n";
        }
        let texts = self
            .pools
            .iter()
            .map(|pool| pool.head() + &pool.table(self.is_wide));
        warnings + &texts.collect::<Vec<_>>().join("\n")
    }
}

/// A decision with its inputs.
#[derive(Debug, Serialize)]
struct Decision {
    text: String,
    desired: u32,
    active: u32,
    starting: u32,
    draining: u32,
    dead: u32,
    spare: u32,
    floor: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_load: Option<f64>,
    critical: Vec<String>,
    asks: Vec<Ask>,
    decided_by: String,
    limits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_out: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_in: Option<f64>,
    alarm: String,
}

#[derive(Debug, Serialize)]
struct Ask {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    need: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    highest: Option<f64>,
    missing: String,
}

impl From<&v1::Decision> for Decision {
    fn from(decision: &v1::Decision) -> Self {
        let decision = decision.clone();
        let ask = |ask: v1::Ask| Ask {
            policy: ask.policy,
            instances: ask.instances,
            need: ask.need,
            highest: ask.highest,
            missing: ask.missing,
        };
        Decision {
            text: decision.text,
            desired: decision.desired,
            active: decision.active,
            starting: decision.starting,
            draining: decision.draining,
            dead: decision.dead,
            spare: decision.spare,
            floor: decision.floor,
            average_load: decision.average_load,
            critical: decision.critical,
            asks: decision.asks.into_iter().map(ask).collect(),
            decided_by: decision.decided_by,
            limits: decision.limits,
            since_out: decision.since_out,
            since_in: decision.since_in,
            alarm: decision.alarm,
        }
    }
}

impl Decision {
    fn human(&self) -> String {
        let mut text = format!("decision: {}\n", self.text);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<14} {value}");
        };
        line(
            "instances",
            format!(
                "{} active, {} desired, {} starting, {} draining, {} dead, {} spare; at least {}",
                self.active,
                self.desired,
                self.starting,
                self.draining,
                self.dead,
                self.spare,
                self.floor
            ),
        );
        if let Some(load) = self.average_load {
            line("average load", percent(load));
        }
        if !self.critical.is_empty() {
            line("critical", self.critical.join(", "));
        }
        for ask in &self.asks {
            let number = |value: Option<f64>| {
                value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"))
            };
            let asks = match (ask.instances, ask.missing.as_str()) {
                (Some(instances), _) => format!(
                    "asks for {instances}; it needs {} now, {} at most in the window",
                    number(ask.need),
                    number(ask.highest)
                ),
                (None, "") => "asks for nothing".to_owned(),
                (None, missing) => missing.to_owned(),
            };
            line(&ask.policy, asks);
        }
        for limit in &self.limits {
            line("limit", limit.clone());
        }
        for (name, since) in [("grew", self.since_out), ("shrank", self.since_in)] {
            if let Some(since) = since {
                line(name, format!("{} ago", super::table::span(since)));
            }
        }
        if !self.alarm.is_empty() {
            line("ALARM", self.alarm.clone());
        }
        text
    }
}

/// Why a pool has as many instances as it has.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pool: Pool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    revision: u64,
    time: String,
    pool: String,
    instance: String,
    kind: String,
    text: String,
    alarm: bool,
}

impl From<&v1::Event> for Event {
    fn from(event: &v1::Event) -> Self {
        Event {
            revision: event.revision,
            time: event.time.map(|time| time.to_string()).unwrap_or_default(),
            pool: event.pool.clone(),
            instance: event.instance.clone(),
            kind: event.kind.clone(),
            text: event.text.clone(),
            alarm: event.alarm,
        }
    }
}

impl Human for Event {
    fn human(&self) -> String {
        let about = match (self.instance.as_str(), self.pool.as_str()) {
            ("", "") => "controller",
            ("", pool) => pool,
            (instance, _) => instance,
        };
        let mark = if self.alarm { "ALARM " } else { "" };
        format!(
            "{} {} {about}: {mark}{}: {}\n",
            self.revision, self.time, self.kind, self.text
        )
    }
}

impl From<&v1::ExplainPoolResponse> for Explanation {
    fn from(answer: &v1::ExplainPoolResponse) -> Self {
        Explanation {
            pool: Pool::from(&answer.pool.clone().unwrap_or_default()),
            decision: answer.decision.as_ref().map(Decision::from),
            events: answer.events.iter().map(Event::from).collect(),
        }
    }
}

impl Human for Explanation {
    fn human(&self) -> String {
        let mut text = self.pool.human();
        match &self.decision {
            Some(decision) => text.push_str(&decision.human()),
            None => text.push_str("no decision yet: what the driver runs is not known\n"),
        }
        for event in &self.events {
            text.push_str(&event.human());
        }
        text
    }
}

/// Something that a watcher is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolEvent {
    /// A pool as it is now.
    #[serde(rename = "pool")]
    Now(Pool),
    /// A pool is gone.
    Deleted(String),
    /// Something happened.
    #[serde(rename = "event")]
    Happened(HappenedEvent),
}

/// Something happened.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct HappenedEvent(Event);

impl PoolEvent {
    /// What is printed of a change; `None` if that is nothing.
    #[must_use]
    pub fn of(change: Option<&Change>) -> Option<Self> {
        Some(match change? {
            Change::Pool(pool) => PoolEvent::Now(Pool::from(pool)),
            Change::Deleted(name) => PoolEvent::Deleted(name.clone()),
            Change::Event(event) => PoolEvent::Happened(HappenedEvent(Event::from(event))),
            Change::SnapshotEnd(_) => return None,
        })
    }
}

impl Human for PoolEvent {
    fn human(&self) -> String {
        match self {
            PoolEvent::Now(pool) => pool.human(),
            PoolEvent::Deleted(name) => format!("{name}: deleted\n"),
            PoolEvent::Happened(HappenedEvent(event)) => event.human(),
        }
    }
}
