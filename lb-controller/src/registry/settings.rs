//! What the operator says about load balancers: `[nodes]` and `[shared]` of the configuration file.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use lb_model::{
    options::Forward,
    pool::{AddressRange, DriverChoice, Placement, Size, Vm},
    project::{BalancerKind, BalancerSpec, MAX_NODES},
    settings::{FieldError, NOT_SET},
};

/// How long the node of a host that is away may come back, while another one stands in for it.
const STAND_IN: Duration = Duration::from_secs(60);

lb_model::settings! {
    /// How the nodes of load balancers are made: `lb-proxy`, in processes, containers or virtual machines on a bridge.
    pub struct NodeSettings {
        /// Which driver operates them: `process`, `docker` or `qemu`.
        driver: DriverChoice = DriverChoice::named("process");
        /// Bridge of the host that clients and backends are reached by.
        bridge: String;
        /// Addresses of the nodes on the bridge, FIRST-LAST/LENGTH.
        range: AddressRange;
        /// Default route of the nodes.
        gateway: Option<IpAddr> = None;
        /// Addresses that each load balancer gets, and so its nodes at most.
        each: u32 = 4, 1..=MAX_NODES;
        /// Program of a node that is a process. Default: lb-proxy beside this program.
        program: Option<PathBuf> = None;
        /// Image of a node that is a container, whose entry point is lb-proxy.
        image: Option<String> = None;
        /// Virtual machine of a node: kernel and `initrd-proxy` of `cargo xtask image`.
        vm: Option<Vm> = None;
        /// Nodes of load balancers of the kind `agent`. Without it there are none.
        agent: Option<AgentNodeSettings> = None;
        /// CPU limit of a node in cores.
        cpu: Option<f64> = None, 0.01..=1_024.0;
        /// Memory limit of a node.
        memory: Option<Size> = None, Size(4 << 20)..=Size(1 << 46);
        /// Which hosts run the nodes of load balancers that do not say so themselves; it needs cpu and memory. Each of these hosts
        /// must have the bridge and, at the same path, the program. Default: the controller's own.
        placement: Option<Placement> = None;
    }
    validate(nodes) {
        let nodes: &NodeSettings = nodes;
        if nodes.range.len() < u128::from(nodes.each) {
            let advice = format!("it has no room for one load balancer with {} nodes; widen it, or give a smaller `each`", nodes.each);
            return Err(FieldError::new("range", nodes.range, advice));
        }
        if let Some(placement) = &nodes.placement {
            placement.validate().map_err(|error| error.within("placement"))?;
            nodes.check_claim()?;
        }
        match nodes.driver.driver.kind.as_str() {
            "process" => Ok(()),
            "docker" if nodes.image.is_some() => Ok(()),
            "docker" => Err(FieldError::new("image", NOT_SET, "give the image with lb-proxy")),
            "qemu" if nodes.vm.is_some() => Ok(()),
            "qemu" => Err(FieldError::new("vm", NOT_SET, "give the virtual machine: kernel and initrd with lb-proxy")),
            other => Err(FieldError::new("driver.kind", other, "give process, docker or qemu")),
        }
    }
}

impl NodeSettings {
    /// Whether it is known what a node may take, by which hosts are chosen.
    ///
    /// # Errors
    /// The setting that is missing.
    pub(super) fn check_claim(&self) -> Result<(), FieldError> {
        let advice = "hosts are chosen by what they have left, so give what a node may take";
        if self.cpu.is_none() {
            return Err(FieldError::missing("cpu", advice));
        }
        if self.memory.is_none() {
            return Err(FieldError::missing("memory", advice));
        }
        Ok(())
    }

    /// What a node of a load balancer may take: cores, and bytes of memory. 0: nobody has said.
    #[must_use]
    pub fn claim_of(&self, spec: &BalancerSpec) -> (f64, u64) {
        let agent = self.agent.as_ref();
        let (cpu, memory) = match agent.filter(|_| spec.kind == BalancerKind::Agent) {
            Some(agent) => (agent.cpu, agent.memory),
            None => (self.cpu, self.memory),
        };
        (cpu.unwrap_or_default(), memory.map_or(0, |size| size.0))
    }

    /// Which hosts run the nodes of a load balancer; `None`: the controller's own. Nodes in a subnet are where its bridge is.
    #[must_use]
    pub fn placement_of(&self, spec: &BalancerSpec) -> Option<Placement> {
        if spec.kind == BalancerKind::Agent {
            return None;
        }
        let own = self.placement.as_ref().filter(|_| spec.subnet.is_none());
        let mut placement = spec.placement.as_ref().or(own).cloned()?;
        placement.stand_in.get_or_insert(STAND_IN);
        Some(placement)
    }
}

lb_model::settings! {
    /// How nodes of load balancers of the kind `agent` are made: virtual machines that run `lb-agent`, with XDP in the guest.
    pub struct AgentNodeSettings {
        /// Virtual machine of a node: kernel and `initrd` of `cargo xtask image`, and 512 MiB of `ram`.
        vm: Vm;
        /// How packets reach the backends.
        forward: Forward = Forward::Ipip;
        /// CPU limit of a node in cores.
        cpu: Option<f64> = None, 0.01..=1_024.0;
        /// Memory limit of a node.
        memory: Option<Size> = None, Size(4 << 20)..=Size(1 << 46);
    }
}

lb_model::settings! {
    /// How load balancers of the kind `shared` are made: VIPs of the controller's agents.
    pub struct SharedSettings {
        /// Addresses of the VIPs, FIRST-LAST/LENGTH. Each load balancer gets one; the network has to bring them to the balancers.
        range: AddressRange;
        /// How packets reach the backends.
        forward: Forward = Forward::Ipip;
    }
}

/// How load balancers are made here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Making {
    /// Those with nodes of their own; `None`: none.
    pub nodes: Option<NodeSettings>,
    /// Those that share the agents; `None`: none.
    pub shared: Option<SharedSettings>,
}
