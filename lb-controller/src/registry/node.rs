//! What a load balancer's nodes are made from, purely: their pool, and the configuration file of the proxy or the agent in them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use lb_model::{
    pool::{AddressRange, DriverChoice, PoolName, PoolSpec, Size},
    project::{Backend, BalancerKind, BalancerProtocol, BalancerSpec, NODE_HEALTH_PORT},
    settings::{FieldError, Map, SettingType as _, Settings as _, Value},
};
use serde_json::json;

use super::{AgentNodeSettings, BalancerRecord, NodeSettings};
use crate::KINDS;

/// The name of the service of a node.
const SERVICE: &str = "backends";
/// The path at which a node says that it is well.
const HEALTH_PATH: &str = "/healthz";
/// Where a container sees its folder, and where a virtual machine has a copy of it.
const CONTAINER_FOLDER: &str = "/etc/lb";
/// The proxy in a virtual machine, and where it listens for its administration, in the guest.
const GUEST_PROGRAM: &str = "/programs/lb-proxy";
/// The agent in a virtual machine.
const AGENT_PROGRAM: &str = "/programs/lb-agent";
const GUEST_ADMIN: &str = "127.0.0.1:9472";
/// What a node that runs an agent begins with, in its folder.
pub const AGENT_START: &str = "start";
/// The agent's own configuration in the node's folder.
pub const AGENT_CONFIG: &str = "agent.toml";
/// Where an agent answers while it runs, and with which statuses: there is no page at this path, and making one of metrics is work
/// that an emulated guest may not have done in time.
const AGENT_HEALTH_PATH: &str = "/";
const AGENT_HEALTH_STATUSES: &str = "200-499";
/// The node's configuration in its folder.
pub const CONFIG: &str = "proxy.toml";
/// The socket of the node's administration in its folder.
pub const SOCKET: &str = "admin.sock";
/// The socket in a node's folder at which the controller tells it the instances of the pool that is behind it.
pub const POOL_SOCKET: &str = "pool.sock";

/// The folder in the controller's of those of load balancers.
#[must_use]
pub fn root(state: &Path) -> PathBuf {
    state.join("balancers")
}

/// The folder of a load balancer in the controller's.
#[must_use]
pub fn folder(state: &Path, balancer: u64) -> PathBuf {
    root(state).join(balancer.to_string())
}

/// The folder of one of its nodes.
#[must_use]
pub fn node_folder(state: &Path, balancer: u64, number: u32) -> PathBuf {
    folder(state, balancer).join(number.to_string())
}

/// The addresses of a load balancer, by whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where clients reach its nodes, by the node's number.
    pub of_clients: AddressRange,
    /// Those of the nodes themselves.
    pub of_nodes: AddressRange,
}

/// The addresses of a load balancer. A proxy answers clients at its own address. An agent does not: backends have the address
/// that clients use as their own, and would keep their answers to its health checks to themselves.
#[must_use]
pub fn addresses(record: &BalancerRecord, spec: &BalancerSpec) -> Addresses {
    let all = record.addresses;
    let half = u32::try_from(all.len() / 2).unwrap_or(u32::MAX);
    let parts = || Some((all.part(1, half)?, all.part(half + 1, half)?));
    match parts().filter(|_| spec.kind == BalancerKind::Agent) {
        Some((of_clients, of_nodes)) => Addresses {
            of_clients,
            of_nodes,
        },
        None => Addresses {
            of_clients: all,
            of_nodes: all,
        },
    }
}

/// What a node that runs an agent has in its folder: the program that it begins with, and the agent's configuration.
///
/// # Errors
/// Its settings were never checked.
pub fn agent_files(
    record: &BalancerRecord,
    spec: &BalancerSpec,
    agent: &AgentNodeSettings,
    number: u32,
) -> Result<(String, String), String> {
    let addresses = addresses(record, spec);
    let vip = addresses
        .of_clients
        .nth(number)
        .ok_or("it has no address")?;
    let any = if vip.is_ipv6() { "[::]" } else { "0.0.0.0" };
    let (family, length) = if vip.is_ipv6() {
        ("-6", 128)
    } else {
        ("-4", 32)
    };
    // Neighbours may know who had the address before.
    let announce = if vip.is_ipv6() {
        String::new()
    } else {
        format!("arping -q -A -c 1 -I eth0 {vip} >/dev/null 2>&1 &\n")
    };
    let start = format!(
        "# Written by lb-controller.\n\
         ip {family} addr add {vip}/{length} dev eth0\n\
         {announce}exec {AGENT_PROGRAM} run --config {CONTAINER_FOLDER}/{AGENT_CONFIG}\n"
    );
    let real = |backend: &Backend| {
        json!({
            "address": backend.address.to_string(),
            "weight": backend.weight,
        })
    };
    let protocol = match spec.protocol {
        BalancerProtocol::Udp => "udp",
        BalancerProtocol::Tcp | BalancerProtocol::Http => "tcp",
    };
    let at = SocketAddr::new(vip, spec.listen_port());
    let mut service = json!({
        "address": format!("{at}/{protocol}"),
        "forward": agent.forward.to_json(),
        "real": spec.backends.iter().map(real).collect::<Vec<Value>>(),
    });
    if let Some(check) = &spec.check {
        service["check"] = check.to_json();
    }
    let file = json!({
        "interfaces": ["eth0"],
        "state": "/run/lb",
        "metrics": format!("{any}:{NODE_HEALTH_PORT}"),
        "vip": [service],
    });
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    Ok((start, format!("# Written by lb-controller.\n{text}")))
}

/// Whether nodes are virtual machines, whose folder is a copy that they got when they started.
#[must_use]
pub fn are_machines(nodes: &NodeSettings) -> bool {
    nodes.driver.driver.kind == "qemu"
}

/// The path at which the stream of a pool is.
#[must_use]
pub fn stream_path(pool: &PoolName) -> String {
    format!("/v1/pools/{pool}/stream")
}

/// Where a node sees its own folder.
fn seen_folder(nodes: &NodeSettings, folder: &Path) -> PathBuf {
    match nodes.driver.driver.kind.as_str() {
        "docker" | "qemu" => CONTAINER_FOLDER.into(),
        _ => folder.to_owned(),
    }
}

/// Where the configuration of a node is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In this folder of the controller's own host.
    Folder(&'a Path),
    /// On the host that runs the node, in the folder in which the node begins. There the controller is not reached, so it says
    /// which instances of a pool there are.
    Host {
        /// The instances of the pool that is behind it.
        members: &'a [SocketAddr],
    },
}

/// The configuration of a node.
///
/// # Errors
/// The file cannot have a value, which what was checked never has.
pub fn config(
    spec: &BalancerSpec,
    nodes: &NodeSettings,
    place: Place<'_>,
) -> Result<String, toml::ser::Error> {
    let any = if nodes.range.nth(1).is_some_and(|first| first.is_ipv6()) {
        "[::]"
    } else {
        "0.0.0.0"
    };
    let mut listener = json!({
        "address": format!("{any}:{}", spec.listen_port()),
        "protocol": spec.protocol.name(),
    });
    if spec.protocol == BalancerProtocol::Tcp {
        listener["service"] = SERVICE.into();
    }
    let health = json!({
        "address": format!("{any}:{NODE_HEALTH_PORT}"),
        "health_path": HEALTH_PATH,
        "routes": false,
    });
    let member = |backend: &Backend| {
        json!({
            "address": backend.address.with_port(spec.port_of(backend)),
            "weight": backend.weight,
        })
    };
    let members: Vec<Value> = spec.backends.iter().map(member).collect();
    let mut service = json!({ "name": SERVICE });
    let socket = match place {
        Place::Folder(folder) => seen_folder(nodes, folder).join(SOCKET),
        Place::Host { .. } => SOCKET.into(),
    };
    match (&spec.pool, place) {
        (Some(pool), Place::Folder(folder)) => {
            let socket = seen_folder(nodes, folder).join(POOL_SOCKET);
            service["pool"] = format!("ws+unix:{}:{}", socket.display(), stream_path(pool)).into();
        }
        (Some(_), Place::Host { members }) => {
            let member = |address: &SocketAddr| json!({ "address": address });
            service["member"] = members.iter().map(member).collect();
        }
        (None, _) => service["member"] = members.into(),
    }
    if let Some(check) = &spec.check {
        service["check"] = check.to_json();
    }
    let admin = if are_machines(nodes) {
        GUEST_ADMIN.to_owned()
    } else {
        format!("unix:{}", socket.display())
    };
    let mut file = json!({
        "admin": admin,
        "listener": [listener, health],
        "service": [service],
    });
    if spec.protocol == BalancerProtocol::Http {
        file["route"] = json!([{ "path": "/", "service": SERVICE }]);
    }
    let text = toml::to_string(&file)?;
    Ok(format!("# Written by lb-controller.\n{text}"))
}

/// The pool of a load balancer's nodes; `program` is that of nodes that are processes, and `bridge` that of its subnet.
///
/// # Errors
/// The operator's settings of nodes do not fit.
pub fn pool(
    record: &BalancerRecord,
    spec: &BalancerSpec,
    nodes: &NodeSettings,
    state: &Path,
    program: &Path,
    bridge: Option<&str>,
) -> Result<PoolSpec, FieldError> {
    // `{number}` is filled in for each node.
    let plain = folder(state, record.id)
        .to_string_lossy()
        .replace('{', "{{")
        .replace('}', "}}");
    let source = format!("{plain}/{{number}}");
    let placement = nodes.placement_of(spec);
    let agent = nodes.agent.as_ref();
    let agent = agent.filter(|_| spec.kind == BalancerKind::Agent);
    let file = match nodes.driver.driver.kind.as_str() {
        // It comes with the launch.
        _ if placement.is_some() => CONFIG.to_owned(),
        "docker" | "qemu" => format!("{CONTAINER_FOLDER}/{CONFIG}"),
        _ => format!("{source}/{CONFIG}"),
    };
    let mut template = json!({
        "arguments": ["run", "--config", file],
        "start_deadline": "15s",
    });
    if placement.is_none() {
        template["volume"] = json!({ "source": source, "target": CONTAINER_FOLDER });
    }
    match &nodes.image {
        Some(image) if nodes.driver.driver.kind == "docker" => {
            template["image"] = image.as_str().into();
        }
        _ => template["program"] = program.to_string_lossy().into(),
    }
    if let Some(vm) = nodes.vm.as_ref().filter(|_| are_machines(nodes)) {
        template["vm"] = Value::Object(vm.to_map());
        template["program"] = GUEST_PROGRAM.into();
        // A kernel may have to boot by emulation.
        template["start_deadline"] = "180s".into();
    }
    if let Some(agent) = agent {
        template["vm"] = Value::Object(agent.vm.to_map());
        template["program"] = "/bin/sh".into();
        template["arguments"] = json!([format!("{CONTAINER_FOLDER}/{AGENT_START}")]);
        template["start_deadline"] = "180s".into();
        template["image"] = Value::Null;
    }
    let (cpu, memory) = nodes.claim_of(spec);
    if cpu > 0.0 {
        template["cpu"] = cpu.into();
    }
    if memory > 0 {
        template["memory"] = Size(memory).to_json();
    }
    // Listeners count when the proxy starts: nodes are replaced when these change.
    let serves = format!("{}:{}", spec.protocol, spec.listen_port());
    template["environment"] = json!({ "LB_SERVES": serves });
    // A pool keeps its port, so it is the one that never changes.
    let mut network = json!({
        "port": NODE_HEALTH_PORT,
        "bridge": nodes.bridge,
        "range": addresses(record, spec).of_nodes.to_string(),
        "delivery": "address",
    });
    if let Some(gateway) = nodes.gateway {
        network["gateway"] = gateway.to_string().into();
    }
    if let (Some(leg), Some(bridge)) = (&record.leg, bridge) {
        network["legs"] = json!([{ "bridge": bridge, "range": leg.addresses.to_string() }]);
    }
    let machines = DriverChoice::named("qemu");
    let driver = match agent {
        Some(_) if !are_machines(nodes) => &machines,
        _ => &nodes.driver,
    };
    let map = json!({
        "driver": Value::Object(driver.to_map()),
        "template": template,
        "network": network,
        "check": {
            "kind": "http",
            "path": HEALTH_PATH,
            "interval": "1s",
            "timeout": "1s",
            "fast_interval": "200ms",
            "healthy_threshold": 1,
            "unhealthy_threshold": 2,
        },
        "scaling": { "min": spec.nodes, "max": spec.most_nodes() },
        "description": format!("nodes of the load balancer {} ({})", record.name, record.id),
    });
    let mut map: Map<String, Value> = map.as_object().cloned().unwrap_or_default();
    if let Some(check) = map.get_mut("check").filter(|_| agent.is_some()) {
        check["path"] = AGENT_HEALTH_PATH.into();
        check["statuses"] = AGENT_HEALTH_STATUSES.into();
        // Packets are forwarded in the guest's kernel, however late its agent is: one that is emulated may be.
        check["unhealthy_threshold"] = 3.into();
    }
    if let Some(placement) = placement {
        map.insert("placement".to_owned(), Value::Object(placement.to_map()));
    }
    PoolSpec::read(&map, &KINDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::LegRecord;

    fn nodes(more: &Value) -> NodeSettings {
        let mut map = json!({ "bridge": "br-lb", "range": "10.90.0.11-10.90.0.99/24" });
        map.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        lb_model::settings::from_map(map.as_object().unwrap()).unwrap()
    }

    fn record(spec: &BalancerSpec) -> BalancerRecord {
        BalancerRecord {
            id: 7,
            project: 1,
            name: "www".parse().unwrap(),
            generation: 1,
            created: Duration::ZERO,
            spec: spec.to_map(),
            addresses: "10.90.0.11-10.90.0.14/24".parse().unwrap(),
            leg: None,
            former_legs: Vec::new(),
            is_deleted: false,
        }
    }

    fn spec(map: Value) -> BalancerSpec {
        BalancerSpec::read(map.as_object().unwrap(), KINDS.probes).unwrap()
    }

    #[test]
    fn nodes_are_a_pool_of_proxies() {
        let http = spec(json!({ "nodes": 2, "auto_scaling": true }));
        let state = Path::new("/var/lib/a{b");
        let pool = pool(
            &record(&http),
            &http,
            &nodes(&json!({ "cpu": 0.5 })),
            state,
            Path::new("/usr/bin/lb-proxy"),
            None,
        )
        .unwrap();
        assert_eq!((pool.scaling.min, pool.scaling.max), (2, 4));
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        assert_eq!(launch.endpoint.to_string(), "10.90.0.12:9471");
        assert_eq!(
            launch.arguments,
            ["run", "--config", "/var/lib/a{b/balancers/7/2/proxy.toml"]
        );
        assert_eq!(launch.program.unwrap(), Path::new("/usr/bin/lb-proxy"));
        let docker = nodes(&json!({ "driver": { "kind": "docker" }, "image": "lb-proxy:1" }));
        let pool =
            super::pool(&record(&http), &http, &docker, state, Path::new("x"), None).unwrap();
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        assert_eq!(launch.arguments[2], "/etc/lb/proxy.toml");
        assert_eq!(launch.image.as_deref(), Some("lb-proxy:1"));
        assert_eq!(launch.program, None);
        let vm = json!({ "kernel": "/k", "initrd": "/i", "boot": "saved" });
        let machines = nodes(&json!({ "driver": { "kind": "qemu" }, "vm": vm }));
        let pool = super::pool(
            &record(&http),
            &http,
            &machines,
            state,
            Path::new("x"),
            None,
        )
        .unwrap();
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        assert_eq!(launch.program.as_deref(), Some(Path::new(GUEST_PROGRAM)));
        assert_eq!(launch.arguments[2], "/etc/lb/proxy.toml");
        assert_eq!(launch.vm, machines.vm);
        let file = config(&http, &machines, Place::Folder(Path::new("/s/7/1"))).unwrap();
        assert!(file.contains(GUEST_ADMIN), "{file}");
    }

    #[test]
    fn nodes_of_the_kind_agent_are_machines_with_a_vip() {
        let made = nodes(
            &json!({ "agent": { "vm": { "kernel": "/k", "initrd": "/i" }, "memory": "1GiB" }, "memory": "64MiB" }),
        );
        let spec = spec(json!({
            "kind": "agent", "protocol": "udp", "port": 53, "backend_port": 53, "nodes": 2,
            "backends": [{ "address": "10.0.0.1", "weight": 7 }],
            "check": { "kind": "http", "port": 80 },
        }));
        let pool = pool(
            &record(&spec),
            &spec,
            &made,
            Path::new("/s"),
            Path::new("x"),
            None,
        )
        .unwrap();
        assert_eq!(pool.driver().kind, "qemu");
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        // The first two addresses are those of clients.
        assert_eq!(launch.endpoint.to_string(), "10.90.0.14:9471");
        assert_eq!(launch.memory, Some(1 << 30));
        assert_eq!(launch.arguments, ["/etc/lb/start"]);
        let agent = made.agent.as_ref().unwrap();
        let (start, text) = agent_files(&record(&spec), &spec, agent, 2).unwrap();
        assert!(start.contains("addr add 10.90.0.12/32 dev eth0"), "{start}");
        let file = text.parse::<toml::Table>().unwrap();
        let vip = &file["vip"][0];
        assert_eq!(vip["address"].as_str(), Some("10.90.0.12:53/udp"));
        assert_eq!(vip["real"][0]["weight"].as_integer(), Some(7));
        assert_eq!(vip["check"]["port"].as_integer(), Some(80));
        assert_eq!(file["metrics"].as_str(), Some("0.0.0.0:9471"));
        agent_files(&record(&spec), &spec, agent, 3).unwrap_err();
    }

    #[test]
    fn nodes_in_a_subnet_have_an_address_there_too() {
        let spec = spec(json!({ "nodes": 2, "subnet": "back" }));
        let mut record = record(&spec);
        record.leg = Some(LegRecord {
            subnet: 9,
            addresses: "10.0.0.128-10.0.0.131/24".parse().unwrap(),
        });
        let made = |record: &BalancerRecord| {
            let (state, program) = (Path::new("/s"), Path::new("/usr/bin/lb-proxy"));
            pool(
                record,
                &spec,
                &nodes(&json!({})),
                state,
                program,
                Some("lbs9"),
            )
        };
        let pool = made(&record).unwrap();
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        let leg = &launch.attachment().unwrap().legs[0];
        assert_eq!(
            (leg.bridge.as_str(), leg.address.to_string()),
            ("lbs9", "10.0.0.129".to_owned())
        );
        // The network of the nodes' own addresses cannot be that of the subnet.
        record.addresses = "10.0.0.11-10.0.0.14/24".parse().unwrap();
        let error = made(&record).unwrap_err();
        assert_eq!(error.field, "network.legs[0].range", "{error}");
    }

    #[test]
    fn nodes_on_other_hosts_get_their_configuration_with_the_launch() {
        let placed = nodes(&json!({ "placement": {}, "cpu": 0.5, "memory": "128MiB" }));
        let http = spec(json!({ "pool": "web" }));
        let made = |nodes: &NodeSettings, spec: &BalancerSpec| {
            let (state, program) = (Path::new("/s"), Path::new("/usr/bin/lb-proxy"));
            pool(&record(spec), spec, nodes, state, program, None)
        };
        let pool = made(&placed, &http).unwrap();
        let placement = pool.placement.clone().unwrap();
        assert_eq!(placement.stand_in, Some(Duration::from_secs(60)));
        let launch = pool.launch(&"lb-7-2-5".parse().unwrap()).unwrap();
        assert_eq!(launch.arguments, ["run", "--config", "proxy.toml"]);
        assert_eq!(launch.volume, None);
        let members = ["10.0.0.1:8000".parse().unwrap()];
        let text = config(&http, &placed, Place::Host { members: &members }).unwrap();
        let file = text.parse::<toml::Table>().unwrap();
        assert_eq!(file["admin"].as_str(), Some("unix:admin.sock"));
        let member = &file["service"][0]["member"][0];
        assert_eq!(member["address"].as_str(), Some("10.0.0.1:8000"));
        // A load balancer says where its own are; in a subnet they are where its bridge is.
        let own = spec(json!({ "placement": { "hosts": ["h7"], "stand_in": "0s" } }));
        let placement = made(&placed, &own).unwrap().placement.unwrap();
        assert_eq!(placement.hosts, ["h7".parse().unwrap()]);
        assert_eq!(placement.stand_in, Some(Duration::ZERO));
        let inside = spec(json!({ "subnet": "back" }));
        assert_eq!(made(&placed, &inside).unwrap().placement, None);
        let error = made(&nodes(&json!({})), &own).unwrap_err();
        assert_eq!(error.field, "template.cpu");
    }

    #[test]
    fn nodes_are_told_what_to_serve() {
        let read = |text: &str| text.parse::<toml::Table>().unwrap();
        let own = Place::Folder(Path::new("/s/7/1"));
        let http = spec(json!({
            "backends": [{ "address": "10.0.0.1" }, { "address": "web.example", "port": 81, "weight": 5 }],
            "check": { "kind": "http", "path": "/up", "interval": "5s" },
        }));
        let text = config(&http, &nodes(&json!({})), own).unwrap();
        let file = read(&text);
        assert_eq!(file["admin"].as_str(), Some("unix:/s/7/1/admin.sock"));
        assert_eq!(file["listener"][0]["address"].as_str(), Some("0.0.0.0:80"));
        assert_eq!(
            file["listener"][1]["health_path"].as_str(),
            Some("/healthz")
        );
        assert_eq!(
            file["service"][0]["member"][1]["address"].as_str(),
            Some("web.example:81")
        );
        assert_eq!(file["service"][0]["check"]["path"].as_str(), Some("/up"));
        let tcp = spec(
            json!({ "protocol": "tcp", "port": 5432, "backends": [{ "address": "2001:db8::1" }] }),
        );
        let of_pool = spec(json!({ "pool": "web" }));
        let file = read(&config(&of_pool, &nodes(&json!({})), own).unwrap());
        assert_eq!(
            file["service"][0]["pool"].as_str(),
            Some("ws+unix:/s/7/1/pool.sock:/v1/pools/web/stream")
        );
        let six = nodes(&json!({ "range": "2001:db8::11-2001:db8::99/64" }));
        let file = read(&config(&tcp, &six, own).unwrap());
        assert_eq!(file["listener"][0]["address"].as_str(), Some("[::]:5432"));
        assert_eq!(file["listener"][0]["service"].as_str(), Some("backends"));
        assert_eq!(
            file["service"][0]["member"][0]["address"].as_str(),
            Some("[2001:db8::1]:5432")
        );
        assert!(!file.contains_key("route"));
    }
}
