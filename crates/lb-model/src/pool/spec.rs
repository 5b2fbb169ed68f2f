//! What can be set on a pool.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{AddressRange, InstanceName, Launch, Placement, Template, launch, template::user_ids};
use crate::{
    check::Check,
    component::{Component, Registry},
    load::LoadSource,
    network::check_interface,
    project::ObjectName,
    scaling::Scaling,
    settings::{
        FieldError, Map, NOT_SET, SettingType as _, Settings as _, Value, check_description, merged,
    },
    vip::{VipKey, check_unicast},
};

/// The most further bridges of an instance.
pub const MAX_LEGS: usize = 4;

crate::choice! {
    /// How packets of balancers reach an instance with an address of its own.
    pub enum Delivery = Ipip {
        /// Encapsulated: the instance gets the VIPs and a decapsulator, placed into its network namespace from outside.
        Ipip = "ipip",
        /// With the instance's MAC address: it gets the VIPs.
        L2 = "l2",
        /// To its own address only, from proxies: it gets no VIP.
        Address = "address",
    }
}

crate::choice! {
    /// What becomes of instances when the settings that they were made by change.
    pub enum Rollout = Rolling {
        /// They are replaced, as many at a time as `scaling.relaunch` allows; each is drained first.
        Rolling = "rolling",
        /// They keep what they were made by until they are relaunched for another reason.
        Manual = "manual",
    }
}

crate::settings! {
    /// A further bridge that the instances of a pool are connected to.
    #[derive(Eq)]
    pub struct LegSettings {
        /// Bridge of the host.
        bridge: String;
        /// Addresses of the instances on it, FIRST-LAST/LENGTH.
        range: AddressRange;
        /// MTU of the instances' interfaces. Default: the bridge's.
        mtu: Option<u32> = None, 576..=65_535;
    }
    validate(leg) {
        let leg: &LegSettings = leg;
        check_interface(&leg.bridge).map_err(|error| error.within("bridge"))
    }
}

crate::settings! {
    /// Where the instances of a pool are reached.
    #[derive(Eq)]
    pub struct PoolNetwork {
        /// Port of each instance if it has an address of its own; otherwise that of the first, the second has the next one.
        port: u16;
        /// Address of the host, if the instances are reached there. Default: 127.0.0.1.
        address: Option<IpAddr> = None;
        /// Port inside a container that is reached at an address of the host. Default: the same.
        inner_port: Option<u16> = None, 1..=65_535;
        /// Bridge of the host. With it, each instance has a network of its own and an address of `range`.
        bridge: Option<String> = None;
        /// Addresses of the instances on the bridge, FIRST-LAST/LENGTH.
        range: Option<AddressRange> = None;
        /// Default route of the instances.
        gateway: Option<IpAddr> = None;
        /// MTU of the instances' interfaces. Default: the bridge's.
        mtu: Option<u32> = None, 576..=65_535;
        /// How packets of balancers reach an instance on the bridge.
        delivery: Delivery = Delivery::Ipip;
        /// Further bridges that the instances are connected to, 4 at most. The instances forward nothing between them.
        legs: Vec<LegSettings> = Vec::new();
    }
    validate(network) {
        let network: &PoolNetwork = network;
        if network.port == 0 {
            return Err(FieldError::new("port", 0, "give 1 to 65535"));
        }
        let unused = |field: &str, is_set: bool, advice: &str| {
            if is_set { Err(FieldError::new(field, "given", advice)) } else { Ok(()) }
        };
        let Some(bridge) = &network.bridge else {
            let advice = "it needs a bridge; give bridge, or leave it out";
            unused("range", network.range.is_some(), advice)?;
            unused("gateway", network.gateway.is_some(), advice)?;
            unused("legs", !network.legs.is_empty(), advice)?;
            return unused("mtu", network.mtu.is_some(), advice);
        };
        check_interface(bridge).map_err(|error| error.within("bridge"))?;
        let advice = "the instances have addresses of their own on the bridge; leave it out";
        unused("address", network.address.is_some(), advice)?;
        unused("inner_port", network.inner_port.is_some(), advice)?;
        let Some(range) = &network.range else {
            return Err(FieldError::missing("range", "give the addresses of the instances on the bridge"));
        };
        if let Some(gateway) = network.gateway {
            check_unicast(gateway).map_err(|error| FieldError::new("gateway", gateway, error.to_string()))?;
            if !range.is_neighbour(gateway) || range.contains(gateway) {
                let advice = "give an address of the instances' network that is not in range";
                return Err(FieldError::new("gateway", gateway, advice));
            }
        }
        if network.legs.len() > MAX_LEGS {
            return Err(FieldError::new("legs", network.legs.len(), format!("give {MAX_LEGS} at most")));
        }
        for (position, leg) in network.legs.iter().enumerate() {
            let before = network.legs[..position].iter().map(|leg| &leg.range);
            let twin = std::iter::once(range).chain(before).find(|other| leg.range.shares_network(other));
            if let Some(twin) = twin {
                let advice = format!("an instance could not tell it from {twin}, where it is, too; give addresses of another network");
                return Err(FieldError::new(format!("legs[{position}].range"), leg.range, advice));
            }
        }
        Ok(())
    }
}

impl PoolNetwork {
    /// The bridges that instances are connected to, each with their addresses there and the setting that says so.
    pub fn bridges(&self) -> impl Iterator<Item = (&str, &AddressRange, String)> {
        let first = self.bridge.as_deref().zip(self.range.as_ref());
        let first = first.map(|(bridge, range)| (bridge, range, "range".to_owned()));
        let legs = self.legs.iter().enumerate();
        let legs =
            legs.map(|(at, leg)| (leg.bridge.as_str(), &leg.range, format!("legs[{at}].range")));
        first.into_iter().chain(legs)
    }
}

crate::settings! {
    /// The way in which instances are operated: the kind of driver, with its own settings.
    pub struct DriverChoice {
        ..driver: "kind";
    }
}

crate::settings! {
    /// What can be set on a pool.
    pub struct PoolSpec {
        /// Which driver operates the instances; docs/reference/pools.md describes the kinds.
        driver: DriverChoice;
        /// What an instance is made from.
        template: Template = Template::default();
        /// Where the instances are reached.
        network: PoolNetwork;
        /// The health check of the instances. Without it an instance is healthy while it runs.
        check: Option<Check> = None;
        /// Where the load of the instances is read, 8 sources at most.
        load: Vec<LoadSource> = Vec::new();
        /// How many instances there are.
        scaling: Scaling = Scaling::default();
        /// What becomes of instances when the settings that they were made by change.
        rollout: Rollout = Rollout::Rolling;
        /// Which hosts run the instances. Without it, the controller's own does.
        placement: Option<Placement> = None;
        /// VIPs of the agents whose reals the instances are.
        vips: Vec<VipKey> = Vec::new();
        /// Projects whose load balancers may have the instances as backends.
        projects: Vec<ObjectName> = Vec::new();
        /// How long a call of the driver may take; one that hangs counts as failed then. Stopping takes `stop_grace` besides.
        @expert driver_deadline: Duration = Duration::from_secs(60), Duration::from_secs(1)..=Duration::from_secs(3_600);
        /// Free text about the pool, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        let spec: &PoolSpec = spec;
        check_description(spec.description.as_deref())?;
        check_placement(spec)?;
        let instances = u128::from(spec.scaling.max + spec.scaling.spare);
        let room = match &spec.network.range {
            Some(range) => range.len(),
            None => u128::from(u16::MAX - spec.network.port) + 1,
        };
        if instances > room {
            let field = if spec.network.range.is_some() { "network.range" } else { "network.port" };
            let value = match &spec.network.range {
                Some(range) => range.to_string(),
                None => spec.network.port.to_string(),
            };
            let advice = format!("room for {room} instances; scaling.max and scaling.spare are {instances} together");
            return Err(FieldError::new(field, value, advice));
        }
        for (position, leg) in spec.network.legs.iter().enumerate() {
            if instances > leg.range.len() {
                let advice = format!("room for {} instances; scaling.max and scaling.spare are {instances} together", leg.range.len());
                return Err(FieldError::new(format!("network.legs[{position}].range"), leg.range, advice));
            }
        }
        let is_dsr = spec.network.bridge.is_some() && spec.network.delivery != Delivery::Address;
        for (position, vip) in spec.vips.iter().enumerate() {
            let field = format!("vips[{position}]");
            if !is_dsr {
                let advice = "the instances cannot answer for a VIP; give network.bridge, and a delivery of ipip or l2";
                return Err(FieldError::new(field, vip, advice));
            }
            if spec.network.delivery == Delivery::L2
                && spec.network.range.as_ref().and_then(|range| range.nth(1)).map(|a| a.is_ipv4()) != Some(vip.address.is_ipv4())
            {
                let advice = "of another family than the instances' addresses; network.delivery = ipip allows that";
                return Err(FieldError::new(field, vip, advice));
            }
            if vip.port != 0 && vip.port != spec.network.port {
                let advice = format!("its port reaches the instances unchanged, and they have network.port = {}", spec.network.port);
                return Err(FieldError::new(field, vip, advice));
            }
            if spec.vips[..position].contains(vip) {
                return Err(FieldError::new(field, vip, "it is given twice; name each once"));
            }
        }
        Ok(())
    }
}

/// Instances on several hosts need what each takes, and addresses that do not depend on their host.
fn check_placement(spec: &PoolSpec) -> Result<(), FieldError> {
    let Some(placement) = &spec.placement else {
        return Ok(());
    };
    placement
        .validate()
        .map_err(|error| error.within("placement"))?;
    let advice = "hosts are chosen by what they have left, so give what an instance may take";
    if spec.template.cpu.is_none() {
        return Err(FieldError::missing("template.cpu", advice));
    }
    if spec.template.memory.is_none() {
        return Err(FieldError::missing("template.memory", advice));
    }
    if spec.network.bridge.is_none() && placement.is_elsewhere() {
        let advice = "an instance is reached at the same address whichever host runs it; give a bridge, which each host must have";
        return Err(FieldError::missing("network.bridge", advice));
    }
    Ok(())
}

/// The registries that know the kinds of a pool's components.
#[derive(Clone, Copy, Debug)]
pub struct PoolKinds {
    /// Drivers.
    pub drivers: &'static Registry,
    /// Probes of health checks.
    pub probes: &'static Registry,
    /// Readers of load.
    pub readers: &'static Registry,
}

impl PoolKinds {
    /// Checks the components of a pool and fills in the defaults of their kinds.
    ///
    /// # Errors
    /// The setting that cannot have its value.
    pub fn normalize(&self, spec: &mut PoolSpec) -> Result<(), FieldError> {
        spec.driver = self
            .drivers
            .normalize(&spec.driver)
            .map_err(|error| error.within("driver"))?;
        if let Some(check) = &mut spec.check {
            *check = self
                .probes
                .normalize(check)
                .map_err(|error| error.within("check"))?;
        }
        for (position, source) in spec.load.iter_mut().enumerate() {
            *source = self
                .readers
                .normalize(source)
                .map_err(|error| error.within(format!("load[{position}]")))?;
        }
        let kind = &spec.driver.driver.kind;
        let template = &spec.template;
        let missing = match kind.as_str() {
            "docker" if template.image.is_none() => Some("template.image"),
            "process" if template.program.is_none() => Some("template.program"),
            "qemu" if template.vm.is_none() => Some("template.vm"),
            _ => None,
        };
        match missing {
            Some(field) => Err(FieldError::new(
                field,
                NOT_SET,
                format!("the driver {kind} needs it"),
            )),
            None => Ok(()),
        }
    }
}

impl PoolSpec {
    /// Reads and checks the settings of a pool.
    ///
    /// # Errors
    /// The first setting that is missing, unknown, has the wrong type, is out of range or contradicts another one.
    pub fn read(map: &Map<String, Value>, kinds: &PoolKinds) -> Result<Self, FieldError> {
        let mut spec = crate::settings::from_map::<PoolSpec>(map)?;
        kinds.normalize(&mut spec)?;
        Ok(spec)
    }

    /// Changes settings: each entry of `patch` replaces the setting with its name, and tables are patched in turn; `null`
    /// resets a setting to its default (RFC 7396).
    ///
    /// # Errors
    /// As [`PoolSpec::read`].
    pub fn patched(
        &self,
        patch: &Map<String, Value>,
        kinds: &PoolKinds,
    ) -> Result<Self, FieldError> {
        Self::read(&merged(&self.to_map(), patch), kinds)
    }

    /// The driver: its kind and settings.
    #[must_use]
    pub const fn driver(&self) -> &Component {
        &self.driver.driver
    }

    /// Where the instance with this number is reached; `None` past the room that the pool has.
    #[must_use]
    pub fn endpoint(&self, number: u32) -> Option<SocketAddr> {
        match &self.network.range {
            Some(range) => Some(SocketAddr::new(range.nth(number)?, self.network.port)),
            None => {
                let offset = u16::try_from(number.checked_sub(1)?).ok()?;
                let port = self.network.port.checked_add(offset)?;
                let address = self.network.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
                Some(SocketAddr::new(address, port))
            }
        }
    }

    /// The further bridges of the instance with this number.
    fn legs(&self, number: u32) -> Vec<launch::Leg> {
        let legs = self.network.legs.iter();
        legs.filter_map(|leg| {
            Some(launch::Leg {
                bridge: leg.bridge.clone(),
                address: leg.range.nth(number)?,
                prefix: leg.range.prefix(),
                mtu: leg.mtu,
            })
        })
        .collect()
    }

    /// What a driver makes the instance from; `None` past the room that the pool has.
    #[must_use]
    pub fn launch(&self, name: &InstanceName) -> Option<Launch> {
        let endpoint = self.endpoint(name.number)?;
        let template = &self.template;
        // Validation has filled each text before.
        let fill = |text: &str| Launch::fill(name, endpoint, text).unwrap_or_default();
        let network = match (&self.network.bridge, &self.network.range) {
            (Some(bridge), Some(range)) => launch::Network::Bridge(launch::Attachment {
                bridge: bridge.clone(),
                prefix: range.prefix(),
                gateway: self.network.gateway,
                mtu: self.network.mtu,
                vips: {
                    let mut vips: Vec<_> = self.vips.iter().map(|vip| vip.address).collect();
                    vips.sort_unstable();
                    vips.dedup();
                    vips
                },
                encapsulated: self.network.delivery == Delivery::Ipip,
                legs: self.legs(name.number),
            }),
            _ => launch::Network::Host {
                inner_port: self.network.inner_port,
            },
        };
        Some(Launch {
            name: name.clone(),
            image: template.image.clone(),
            vm: template.vm.clone(),
            program: template.program.clone(),
            arguments: template.arguments.iter().map(|text| fill(text)).collect(),
            environment: template
                .environment
                .iter()
                .map(|(name, text)| (name.clone(), fill(text)))
                .collect(),
            user: template
                .user
                .as_deref()
                .and_then(|user| user_ids(user).ok()),
            cpu: template.cpu,
            memory: template.memory.map(|size| size.0),
            processes: template.processes,
            labels: template.labels.clone(),
            volume: template.volume.as_ref().map(|volume| {
                let source = fill(&volume.source.to_string_lossy());
                (source.into(), volume.target.clone())
            }),
            files: BTreeMap::new(),
            endpoint,
            network,
        })
    }

    /// Whether instances that were made by `self` are as `other` would make them.
    #[must_use]
    pub fn makes_the_same(&self, other: &Self) -> bool {
        self.driver == other.driver
            && Template {
                start_deadline: other.template.start_deadline,
                stop_grace: other.template.stop_grace,
                ..self.template.clone()
            } == other.template
            && self.network == other.network
            && self.vips == other.vips
    }
}

impl DriverChoice {
    /// The choice of a driver without settings.
    #[must_use]
    pub fn named(kind: &str) -> Self {
        let map = serde_json::json!({ "kind": kind });
        Self::from_json(&map).unwrap_or_else(|_| DriverChoice {
            driver: Component::named(kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{component::Kind, component::NoSettings, settings::Level};

    static PROCESS: Kind = Kind::of::<NoSettings>("process", "processes");
    static DOCKER: Kind = Kind::of::<NoSettings>("docker", "containers");
    static HTTP: Kind = Kind::of::<NoSettings>("http", "asks for a page");
    static KINDS: PoolKinds = PoolKinds {
        drivers: &Registry {
            family: "driver",
            key: "kind",
            kinds: &[&PROCESS, &DOCKER],
        },
        probes: &Registry {
            family: "probe",
            key: "kind",
            kinds: &[&HTTP],
        },
        readers: &Registry {
            family: "load reader",
            key: "kind",
            kinds: &[],
        },
    };

    fn read(text: &str) -> Result<PoolSpec, FieldError> {
        let map: Map<String, Value> = toml::from_str(text).unwrap();
        PoolSpec::read(&map, &KINDS)
    }

    const PROCESSES: &str = r#"
        driver.kind = "process"
        network = { port = 8000 }
        check = { kind = "http", interval = "1s" }
        scaling = { min = 2, max = 8 }
        [template]
        program = "/usr/bin/server"
        arguments = ["--listen", "{address}:{port}", "--name={name}", "{{}}"]
        environment = { NUMBER = "{number}" }
        volume = { source = "/srv/{pool}/{number}" }
        memory = "64MiB"
        user = "1000:50"
    "#;

    const CONTAINERS: &str = r#"
        driver = { kind = "docker" }
        vips = ["192.0.2.10:80/tcp"]
        template.image = "web:1"
        [network]
        port = 80
        bridge = "br-web"
        range = "10.70.0.11-10.70.0.20/24"
        gateway = "10.70.0.1"
    "#;

    #[test]
    fn processes_have_a_port_each() {
        let spec = read(PROCESSES).unwrap();
        let launch = spec.launch(&"web-3-7".parse().unwrap()).unwrap();
        assert_eq!(launch.endpoint, "127.0.0.1:8002".parse().unwrap());
        assert_eq!(
            launch.arguments,
            ["--listen", "127.0.0.1:8002", "--name=web-3-7", "{}"]
        );
        assert_eq!(launch.environment["NUMBER"], "3");
        assert_eq!(launch.memory, Some(64 << 20));
        assert_eq!(launch.user, Some((1000, Some(50))));
        let (source, _) = launch.volume.clone().unwrap();
        assert_eq!(source, std::path::Path::new("/srv/web/3"));
        assert_eq!(launch.network, launch::Network::Host { inner_port: None });
        let stored = serde_json::to_value(&launch).unwrap();
        assert_eq!(serde_json::from_value::<Launch>(stored).unwrap(), launch);
    }

    #[test]
    fn containers_have_an_address_each() {
        let spec = read(CONTAINERS).unwrap();
        let launch = spec.launch(&"web-10-1".parse().unwrap()).unwrap();
        assert_eq!(launch.endpoint, "10.70.0.20:80".parse().unwrap());
        let attachment = launch.attachment().unwrap();
        assert_eq!(attachment.prefix, 24);
        assert_eq!(attachment.vips, ["192.0.2.10".parse::<IpAddr>().unwrap()]);
        assert!(attachment.encapsulated);
        assert_eq!(spec.launch(&"web-11-1".parse().unwrap()), None);
    }

    #[test]
    fn an_instance_may_be_on_several_bridges() {
        let spec = read(CONTAINERS).unwrap();
        let legs = json!({ "network": { "legs": [{ "bridge": "br-x", "range": "10.0.0.5-10.0.0.24/24", "mtu": 1450 }] } });
        let spec = spec.patched(legs.as_object().unwrap(), &KINDS).unwrap();
        let launch = spec.launch(&"web-2-1".parse().unwrap()).unwrap();
        let leg = &launch.attachment().unwrap().legs[0];
        assert_eq!(leg.address, "10.0.0.6".parse::<IpAddr>().unwrap());
        assert_eq!(
            (leg.bridge.as_str(), leg.prefix, leg.mtu),
            ("br-x", 24, Some(1450))
        );
        assert_eq!(PoolSpec::read(&spec.to_map(), &KINDS).unwrap(), spec);
        // A launch of an earlier version has none.
        let mut stored = serde_json::to_value(&launch).unwrap();
        stored["network"].as_object_mut().unwrap().remove("legs");
        let read: Launch = serde_json::from_value(stored).unwrap();
        assert_eq!(read.attachment().unwrap().legs, []);
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [PROCESSES, CONTAINERS] {
            let spec = read(text).unwrap();
            assert_eq!(PoolSpec::read(&spec.to_map(), &KINDS).unwrap(), spec);
        }
    }

    #[test]
    fn a_patch_reaches_into_tables() {
        let spec = read(PROCESSES).unwrap();
        let patch = |value: Value| spec.patched(value.as_object().unwrap(), &KINDS);
        let changed = patch(json!({ "scaling": { "min": 3 }, "check": null })).unwrap();
        assert_eq!((changed.scaling.min, changed.scaling.max), (3, 8));
        assert_eq!(changed.check, None);
        assert!(spec.makes_the_same(&changed));
        let changed = patch(json!({ "template": { "environment": { "A": "b" } } })).unwrap();
        assert_eq!(changed.template.environment.len(), 2);
        assert!(!spec.makes_the_same(&changed));
        let changed = patch(json!({ "template": { "stop_grace": "1s" } })).unwrap();
        assert!(spec.makes_the_same(&changed));
        assert_eq!(
            patch(json!({ "scaling": { "max": 1 } })).unwrap_err().field,
            "scaling.max"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let processes = read(PROCESSES).unwrap();
        let containers = read(CONTAINERS).unwrap();
        for (spec, value, field) in [
            (
                &processes,
                json!({ "driver": { "kind": "vm" } }),
                "driver.kind",
            ),
            (&processes, json!({ "driver": null }), "driver"),
            (&processes, json!({ "network": null }), "network"),
            (
                &processes,
                json!({ "template": { "program": null } }),
                "template.program",
            ),
            (
                &processes,
                json!({ "vips": ["192.0.2.10:8000/tcp"] }),
                "vips[0]",
            ),
            (
                &processes,
                json!({ "network": { "port": 65_530 } }),
                "network.port",
            ),
            (
                &processes,
                json!({ "network": { "range": "10.0.0.1-10.0.0.9/24" } }),
                "network.range",
            ),
            (
                &processes,
                json!({ "check": { "kind": "http", "interval": "1ms" } }),
                "check.interval",
            ),
            (&processes, json!({ "colour": "red" }), "colour"),
            (
                &containers,
                json!({ "template": { "image": null } }),
                "template.image",
            ),
            (
                &containers,
                json!({ "network": { "range": null } }),
                "network.range",
            ),
            (
                &containers,
                json!({ "network": { "gateway": "10.70.1.1" } }),
                "network.gateway",
            ),
            (
                &containers,
                json!({ "network": { "gateway": "10.70.0.12" } }),
                "network.gateway",
            ),
            (
                &containers,
                json!({ "network": { "bridge": "a bridge" } }),
                "network.bridge",
            ),
            (
                &containers,
                json!({ "network": { "address": "10.0.0.1" } }),
                "network.address",
            ),
            (
                &containers,
                json!({ "scaling": { "spare": 1 } }),
                "network.range",
            ),
            (
                &processes,
                json!({ "network": { "legs": [{ "bridge": "b", "range": "10.0.0.1-10.0.0.9/24" }] } }),
                "network.legs",
            ),
            (
                &containers,
                json!({ "network": { "legs": [{ "bridge": "b", "range": "10.70.0.101-10.70.0.109/16" }] } }),
                "network.legs[0].range",
            ),
            (
                &containers,
                json!({ "network": { "legs": [{ "bridge": "b", "range": "10.0.0.1-10.0.0.2/24" }] } }),
                "network.legs[0].range",
            ),
            (
                &containers,
                json!({ "network": { "legs": [{ "bridge": "a b", "range": "10.0.0.1-10.0.0.99/24" }] } }),
                "network.legs[0].bridge",
            ),
            (
                &containers,
                json!({ "vips": ["192.0.2.10:81/tcp"] }),
                "vips[0]",
            ),
            (
                &containers,
                json!({ "vips": ["192.0.2.10:80/tcp", "192.0.2.10:80/tcp"] }),
                "vips[1]",
            ),
            (
                &containers,
                json!({ "network": { "delivery": "address" } }),
                "vips[0]",
            ),
            (
                &containers,
                json!({ "network": { "delivery": "l2" }, "vips": ["[2001:db8::1]:80/tcp"] }),
                "vips[0]",
            ),
        ] {
            let error = spec
                .patched(value.as_object().unwrap(), &KINDS)
                .expect_err(field);
            assert_eq!(error.field, field, "{error}");
        }
    }

    #[test]
    fn every_setting_has_help() {
        let tables = [
            PoolSpec::fields(),
            PoolNetwork::fields(),
            LegSettings::fields(),
            Template::fields(),
            Placement::fields(),
            super::super::template::Volume::fields(),
            super::super::Vm::fields(),
        ];
        for field in tables.into_iter().flatten() {
            assert!(field.help.ends_with('.'), "{}: {}", field.name, field.help);
            assert!(matches!(field.level, Level::Operator | Level::Expert));
        }
    }
}
