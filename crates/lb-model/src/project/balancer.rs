//! What can be set on a load balancer of a project.

use std::collections::BTreeMap;

use super::{Backend, HostName, ObjectName};
use crate::{
    check::Check,
    component::Registry,
    pool::{Placement, PoolName},
    settings::{FieldError, Map, NOT_SET, Value, check_description},
};

/// The most nodes of a load balancer.
pub const MAX_NODES: u32 = 64;
/// The port at which nodes answer health checks; load balancers cannot have it.
pub const NODE_HEALTH_PORT: u16 = 9471;
/// The port of HTTP.
const HTTP_PORT: u16 = 80;

crate::choice! {
    /// What a load balancer understands.
    pub enum BalancerProtocol = Http {
        /// Requests: each goes to the backend that suits it best, and idempotent ones that fail are tried again elsewhere.
        Http = "http",
        /// Connections.
        Tcp = "tcp",
        /// Datagrams; with `kind = "shared"` or `kind = "agent"`.
        Udp = "udp",
    }
}

crate::choice! {
    /// What serves a load balancer.
    pub enum BalancerKind = Node {
        /// Nodes of its own: proxies, which nobody else uses.
        Node = "node",
        /// The operator's balancers, in whose kernels it is a VIP: it serves within milliseconds, packets go to the backends as the
        /// client sent them, and answers directly to the client. The backends have to be prepared for that.
        Shared = "shared",
        /// Nodes of its own that are virtual machines with a balancer in their kernels: packets and answers go as with `shared`.
        Agent = "agent",
    }
}

crate::settings! {
    /// What can be set on a load balancer.
    pub struct BalancerSpec {
        /// What serves it. It stays as it was created.
        kind: BalancerKind = BalancerKind::Node;
        /// What it understands.
        protocol: BalancerProtocol = BalancerProtocol::Http;
        /// Port that clients connect to. Default: 80 for `http`, `backend_port` for `tcp`.
        port: Option<u16> = None, 1..=65_535;
        /// The servers behind it.
        backends: Vec<Backend> = Vec::new();
        /// In the place of `backends`, a pool whose instances are behind it, however many there are. The operator has to allow
        /// it to the project (`projects` of the pool). The pool checks its instances, and can be scaled by the requests that
        /// they get.
        pool: Option<PoolName> = None;
        /// Port of the backends that have none of their own. Default: the check's, or 80 for `http`.
        backend_port: Option<u16> = None, 1..=65_535;
        /// The health check of the backends. Without it they count as up.
        check: Option<Check> = None;
        /// A subnet of the project in which the nodes have an address, too, and so reach the backends in it.
        subnet: Option<ObjectName> = None;
        /// Nodes at least: proxies of its own that serve it.
        nodes: u32 = 1, 1..=MAX_NODES;
        /// Starts further nodes when these are busy, up to `max_nodes`.
        auto_scaling: bool = false;
        /// Nodes at most, with `auto_scaling`.
        max_nodes: u32 = 4, 1..=MAX_NODES;
        /// Which hosts run its nodes. Default: those that the operator has said in `[nodes]`, or the controller's own.
        placement: Option<Placement> = None;
        /// Load balancers of the project, by name, whose clients it serves in their place: while it serves, their names lead to
        /// its addresses.
        takes_over: Vec<ObjectName> = Vec::new();
        /// Labels, for programs of the operator.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// Free text about the load balancer, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        let spec: &BalancerSpec = spec;
        check_description(spec.description.as_deref())?;
        if let Some(placement) = &spec.placement {
            placement.validate().map_err(|error| error.within("placement"))?;
            if spec.subnet.is_some() && placement.is_elsewhere() {
                let advice = "the bridge of a subnet is on the controller's own host only; give placement.hosts = ['local'], or leave out the placement or the subnet";
                return Err(FieldError::new("placement", "given", advice));
            }
        }
        let names = &spec.takes_over;
        if let Some(at) = (0..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(FieldError::new(format!("takes_over[{at}]"), &names[at], "it is given twice; name each once"));
        }
        if spec.kind != BalancerKind::Node {
            validate_vip(spec)?;
        } else if spec.protocol == BalancerProtocol::Udp {
            let advice = "nodes are proxies of connections; give kind = shared or kind = agent, or tcp or http";
            return Err(FieldError::new("protocol", spec.protocol, advice));
        }
        if spec.kind != BalancerKind::Shared && spec.listen_port() == NODE_HEALTH_PORT {
            let advice = "nodes answer health checks there; give another port";
            return Err(FieldError::new("port", NODE_HEALTH_PORT, advice));
        }
        if spec.auto_scaling && spec.max_nodes < spec.nodes {
            let advice = format!("less than nodes, give {} at least", spec.nodes);
            return Err(FieldError::new("max_nodes", spec.max_nodes, advice));
        }
        if let Some(pool) = &spec.pool {
            let advice = format!("the instances of the pool {pool} are the backends; remove one of both");
            if let Some(first) = spec.backends.first() {
                return Err(FieldError::new("backends", &first.address, advice));
            }
            if let Some(check) = &spec.check {
                let advice = format!("the pool {pool} checks its instances; remove the check");
                return Err(FieldError::new("check", &check.probe.kind, advice));
            }
        }
        for (position, backend) in spec.backends.iter().enumerate() {
            let at = |error: FieldError| error.within(format!("backends[{position}]"));
            if spec.port_of(backend) == 0 {
                let advice = "give the backend's port, or backend_port for all";
                return Err(at(FieldError::new("port", NOT_SET, advice)));
            }
            let is_same = |other: &Backend| {
                other.address == backend.address && spec.port_of(other) == spec.port_of(backend)
            };
            if spec.backends[..position].iter().any(is_same) {
                let advice = "it is given twice; name each once";
                return Err(at(FieldError::new("address", &backend.address, advice)));
            }
        }
        if spec.protocol != BalancerProtocol::Http && spec.listen_port() == 0 {
            return Err(FieldError::missing("port", "give the port that clients connect to"));
        }
        Ok(())
    }
}

/// What a VIP cannot do, be it one of the operator's balancers or of nodes.
fn validate_vip(spec: &BalancerSpec) -> Result<(), FieldError> {
    let node = "or give kind = node";
    if spec.protocol == BalancerProtocol::Http {
        let advice = format!("a VIP carries connections, not requests; give tcp, {node}");
        return Err(FieldError::new("protocol", spec.protocol, advice));
    }
    if let Some(subnet) = &spec.subnet {
        let advice = format!("a VIP is in no subnet; leave it out, {node}");
        return Err(FieldError::new("subnet", subnet, advice));
    }
    if spec.placement.is_some() {
        let advice = format!(
            "a VIP is on the controller's own host and at its agents; leave it out, {node}"
        );
        return Err(FieldError::new("placement", "given", advice));
    }
    if let Some(pool) = &spec.pool {
        let advice =
            format!("instances serve VIPs that `vips` of their pool names; give backends, {node}");
        return Err(FieldError::new("pool", pool, advice));
    }
    if spec.auto_scaling && spec.kind == BalancerKind::Shared {
        let advice = format!("a VIP has no nodes that could become more; leave it out, {node}");
        return Err(FieldError::new("auto_scaling", true, advice));
    }
    for (position, backend) in spec.backends.iter().enumerate() {
        let at = |error: FieldError| error.within(format!("backends[{position}]"));
        if let HostName::Name(name) = &backend.address {
            let advice = format!("a VIP has addresses behind it; give one, {node}");
            return Err(at(FieldError::new("address", name, advice)));
        }
        let (port, own) = (spec.listen_port(), spec.port_of(backend));
        if own != port {
            let advice = format!(
                "packets reach the backends with the port of the clients, {port}; leave it out, {node}"
            );
            return Err(at(FieldError::new("port", own, advice)));
        }
    }
    Ok(())
}

impl BalancerSpec {
    /// Reads and checks the settings; `probes` are the kinds of health checks.
    ///
    /// # Errors
    /// The first setting that is missing, unknown, has the wrong type, is out of range or contradicts another one.
    pub fn read(map: &Map<String, Value>, probes: &Registry) -> Result<Self, FieldError> {
        let mut spec = crate::settings::from_map::<BalancerSpec>(map)?;
        if let Some(check) = &mut spec.check {
            *check = probes
                .normalize(check)
                .map_err(|error| error.within("check"))?;
        }
        Ok(spec)
    }

    /// The port that clients connect to; 0 if none follows from the settings.
    #[must_use]
    pub fn listen_port(&self) -> u16 {
        self.port.unwrap_or(match self.protocol {
            BalancerProtocol::Http => HTTP_PORT,
            BalancerProtocol::Tcp | BalancerProtocol::Udp => self.default_port(),
        })
    }

    /// The port of backends that have none of their own; 0 if none follows from the settings.
    fn default_port(&self) -> u16 {
        let of_check = self.check.as_ref().and_then(|check| check.port);
        let of_protocol = match self.protocol {
            BalancerProtocol::Http => HTTP_PORT,
            BalancerProtocol::Tcp | BalancerProtocol::Udp => self.port.unwrap_or_default(),
        };
        self.backend_port.or(of_check).unwrap_or(of_protocol)
    }

    /// The port of a backend.
    #[must_use]
    pub fn port_of(&self, backend: &Backend) -> u16 {
        backend.port.unwrap_or_else(|| self.default_port())
    }

    /// How many nodes it may have.
    #[must_use]
    pub fn most_nodes(&self) -> u32 {
        if self.kind == BalancerKind::Shared {
            0
        } else if self.auto_scaling {
            self.max_nodes
        } else {
            self.nodes
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        component::{Kind, NoSettings},
        settings::{Settings as _, merged},
    };

    static HTTP: Kind = Kind::of::<NoSettings>("http", "asks for a page");
    static PROBES: Registry = Registry {
        family: "probe",
        key: "kind",
        kinds: &[&HTTP],
    };

    fn read(value: Value) -> Result<BalancerSpec, String> {
        BalancerSpec::read(value.as_object().unwrap(), &PROBES).map_err(|error| error.to_string())
    }

    #[test]
    fn nodes_in_a_subnet_are_on_the_controllers_own_host() {
        let with = |placement: Value| read(json!({ "subnet": "back", "placement": placement }));
        with(json!({ "hosts": ["local"] })).unwrap();
        for bad in [json!({}), json!({ "hosts": ["local", "h1"] })] {
            let error = with(bad).unwrap_err();
            assert!(
                error.starts_with("placement") && error.contains("placement.hosts = ['local']"),
                "{error}"
            );
        }
        let twice = json!({ "placement": { "avoid": ["h1", "h1"] } });
        assert!(read(twice).unwrap_err().contains("placement.avoid[1]"));
        let shared = json!({ "kind": "shared", "protocol": "tcp", "port": 1, "placement": {} });
        assert!(read(shared).unwrap_err().starts_with("placement"));
        let twice = json!({ "takes_over": ["a", "a"] });
        assert!(read(twice).unwrap_err().contains("takes_over[1]"));
    }

    #[test]
    fn ports_follow_from_each_other() {
        for (value, listen, backend) in [
            (json!({ "backends": [{ "address": "10.0.0.1" }] }), 80, 80),
            (
                json!({ "port": 8080, "backends": [{ "address": "10.0.0.1", "port": 81 }] }),
                8080,
                81,
            ),
            (
                json!({ "backends": [{ "address": "a.example" }], "check": { "kind": "http", "port": 90 } }),
                80,
                90,
            ),
            (
                json!({ "protocol": "tcp", "port": 5432, "backends": [{ "address": "10.0.0.1" }] }),
                5432,
                5432,
            ),
            (
                json!({ "protocol": "tcp", "backend_port": 99, "backends": [{ "address": "10.0.0.1" }] }),
                99,
                99,
            ),
        ] {
            let spec = read(value.clone()).unwrap();
            let ports = (spec.listen_port(), spec.port_of(&spec.backends[0]));
            assert_eq!(ports, (listen, backend), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (value, words) in [
            (json!({ "protocol": "smtp" }), "protocol"),
            (json!({ "protocol": "tcp" }), "port: not set"),
            (
                json!({ "protocol": "tcp", "backends": [{ "address": "10.0.0.1" }] }),
                "backends[0].port: not set",
            ),
            (json!({ "port": 9471 }), "port: 9471"),
            (
                json!({ "nodes": 3, "auto_scaling": true, "max_nodes": 2 }),
                "max_nodes: 2",
            ),
            (
                json!({ "backends": [{ "address": "10.0.0.1" }, { "address": "10.0.0.1", "port": 80 }] }),
                "backends[1].address: 10.0.0.1: it is given twice",
            ),
            (
                json!({ "backends": [{ "address": "10.0.0.256" }] }),
                "backends[0].address",
            ),
            (json!({ "backends": [{}] }), "backends[0].address: not set"),
            (json!({ "check": { "kind": "magic" } }), "check.kind"),
            (
                json!({ "pool": "web", "backends": [{ "address": "10.0.0.1" }] }),
                "backends: 10.0.0.1: the instances of the pool web",
            ),
            (
                json!({ "pool": "web", "check": { "kind": "http" } }),
                "check: http: the pool web checks",
            ),
            (json!({ "pool": "a pool" }), "pool"),
            (
                json!({ "protocol": "udp", "port": 53 }),
                "protocol: udp: nodes are proxies",
            ),
            (json!({ "kind": "shared" }), "protocol: http: a VIP carries"),
            (
                json!({ "kind": "shared", "protocol": "tcp", "port": 80, "pool": "web" }),
                "pool: web: instances serve",
            ),
            (
                json!({ "kind": "shared", "protocol": "tcp", "port": 80, "auto_scaling": true }),
                "auto_scaling: true: a VIP has no nodes",
            ),
            (
                json!({ "kind": "shared", "protocol": "tcp", "port": 80, "backends": [{ "address": "a.example" }] }),
                "backends[0].address: a.example: a VIP has addresses",
            ),
            (
                json!({ "kind": "shared", "protocol": "udp", "port": 53, "backends": [{ "address": "10.0.0.1", "port": 54 }] }),
                "backends[0].port: 54: packets reach",
            ),
            (json!({ "kind": "agent" }), "protocol: http: a VIP carries"),
            (
                json!({ "kind": "agent", "protocol": "udp", "port": 9471 }),
                "port: 9471: nodes answer",
            ),
            (
                json!({ "kind": "agent", "protocol": "udp", "port": 53, "placement": {} }),
                "placement: given: a VIP is on",
            ),
            (json!({ "nodes": 0 }), "nodes"),
            (json!({ "colour": 1 }), "colour"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(words), "{value}: {error}");
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let spec = read(json!({ "nodes": 2, "backends": [{ "address": "10.0.0.1" }] })).unwrap();
        let patch = json!({ "nodes": null, "auto_scaling": true });
        let agent = json!({ "kind": "agent", "protocol": "udp", "port": 53, "nodes": 2, "auto_scaling": true });
        assert_eq!(read(agent).unwrap().most_nodes(), 4);
        let patched = merged(&spec.to_map(), patch.as_object().unwrap());
        let spec = BalancerSpec::read(&patched, &PROBES).unwrap();
        assert_eq!((spec.nodes, spec.most_nodes()), (1, 4));
        assert_eq!(spec.backends.len(), 1);
    }
}
