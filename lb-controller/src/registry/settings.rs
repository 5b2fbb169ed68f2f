//! What the operator says about load balancers: `[nodes]` and `[shared]` of the configuration file.

use std::{net::IpAddr, path::PathBuf};

use lb_model::{
    options::Forward,
    pool::{AddressRange, DriverChoice, Size, Vm},
    project::MAX_NODES,
    settings::{FieldError, NOT_SET},
};

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
        /// CPU limit of a node in cores.
        cpu: Option<f64> = None, 0.01..=1_024.0;
        /// Memory limit of a node.
        memory: Option<Size> = None, Size(4 << 20)..=Size(1 << 46);
    }
    validate(nodes) {
        let nodes: &NodeSettings = nodes;
        if nodes.range.len() < u128::from(nodes.each) {
            let advice = format!("it has no room for one load balancer with {} nodes; widen it, or give a smaller `each`", nodes.each);
            return Err(FieldError::new("range", nodes.range, advice));
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
