//! What is seen of projects and load balancers.

use std::{net::IpAddr, time::Duration};

use lb_model::{
    host::HostName,
    pool::InstanceName,
    project::{BalancerProtocol, BalancerSpec, ObjectName},
};

use crate::{
    KINDS,
    clock::unix_now,
    registry::{BalancerRecord, ProjectRecord},
};

/// A statement about an object, since when it is true or false, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is stated.
    pub kind: &'static str,
    /// Whether it is so.
    pub is_true: bool,
    /// Since when, since 1970.
    pub since: Duration,
    /// Why, in words.
    pub why: String,
}

/// That a node at least, or its VIP, serves clients.
pub const SERVING: &str = "serving";
/// That all that is wanted of it serves, by the newest settings.
pub const COMPLETE: &str = "complete";
/// That clients can look up its name.
pub const NAMED: &str = "named";

/// What a load balancer does, in a word.
pub const STATES: [&str; 4] = ["pending", "serving", "changing", "deleting"];

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Its name.
    pub name: InstanceName,
    /// Its address.
    pub address: IpAddr,
    /// The host that has it; `None` while none has room.
    pub host: Option<HostName>,
    /// Whether it serves clients.
    pub is_serving: bool,
    /// Why it does not, or what it is.
    pub state: String,
}

/// What is seen of a load balancer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The newest settings that all its nodes follow.
    pub observed_generation: u64,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// The address of its VIP, while that serves.
    pub vip: Option<IpAddr>,
}

impl Seen {
    /// The addresses at which it serves.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let serving = self.nodes.iter().filter(|node| node.is_serving);
        serving.map(|node| node.address).chain(self.vip)
    }

    /// States a condition; one that stays as it was keeps its time.
    pub fn state(&mut self, kind: &'static str, is_true: bool, why: String) {
        match self.conditions.iter_mut().find(|one| one.kind == kind) {
            Some(condition) => {
                if condition.is_true != is_true {
                    condition.is_true = is_true;
                    condition.since = unix_now();
                }
                condition.why = why;
            }
            None => self.conditions.push(Condition {
                kind,
                is_true,
                since: unix_now(),
                why,
            }),
        }
    }

    /// Whether a condition is stated and true.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        let condition = self.conditions.iter().find(|one| one.kind == kind);
        condition.is_some_and(|condition| condition.is_true)
    }
}

/// A project.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectView {
    /// The record.
    pub record: ProjectRecord,
    /// Its load balancers, by id.
    pub balancers: Vec<(u64, ObjectName)>,
    /// Its subnets, by id.
    pub subnets: Vec<(u64, ObjectName)>,
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancerView {
    /// The record.
    pub record: BalancerRecord,
    /// The name of its project.
    pub project: String,
    /// What is seen of it.
    pub seen: Seen,
    /// Where clients reach it, if a node serves.
    pub url: Option<String>,
}

impl BalancerView {
    /// A load balancer whose full name clients can look up, if it has one.
    pub(super) fn new(
        record: &BalancerRecord,
        project: String,
        seen: Seen,
        full: Option<String>,
    ) -> Self {
        let spec = BalancerSpec::read(&record.spec, KINDS.probes).ok();
        let url = spec.and_then(|spec| url(&spec, &seen, full));
        BalancerView {
            record: record.clone(),
            project,
            seen,
            url,
        }
    }

    /// What it does: pending, serving, changing or deleting.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let [pending, serving, changing, deleting] = STATES;
        match (
            self.record.is_deleted,
            self.seen.is(SERVING),
            self.seen.is(COMPLETE),
        ) {
            (true, ..) => deleting,
            (_, true, true) => serving,
            (_, true, false) => changing,
            _ => pending,
        }
    }

    /// The addresses at which it serves.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.seen.addresses().collect()
    }
}

/// Where clients reach it: at its name, or at the first address at which it serves.
fn url(spec: &BalancerSpec, seen: &Seen, full: Option<String>) -> Option<String> {
    let address = seen.addresses().next()?;
    let host = full.unwrap_or_else(|| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    let port = spec.listen_port();
    Some(match (spec.protocol, port) {
        (BalancerProtocol::Http, 80) => format!("http://{host}/"),
        (BalancerProtocol::Http, port) => format!("http://{host}:{port}/"),
        (protocol, port) => format!("{protocol}://{host}:{port}"),
    })
}
