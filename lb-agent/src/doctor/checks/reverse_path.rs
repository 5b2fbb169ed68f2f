//! Whether the balancer's host takes the answers to probes through the tunnel.

use lb_model::check::Via;

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "reverse_path",
    examines: "whether the reverse-path filter takes the answers to probes",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    let tunnelled = |vip: &&crate::doctor::VipFacts| {
        vip.check == Some(Via::Tunnel) && vip.vip.address.is_ipv4()
    };
    let Some(vip) = facts.vips.iter().find(tunnelled) else {
        return Vec::new();
    };
    let strict = |name: &str| facts.host.reverse_path_filter(name) == 1;
    let interfaces = facts.interfaces.iter().filter(|at| strict(&at.name));
    interfaces
        .map(|interface| {
            Finding::new(
                Severity::Warning,
                &interface.name,
                format!(
                    "the reverse-path filter is strict: answers to probes of {} come from the VIP's address, and are \
                     dropped if the route to the VIP leads elsewhere",
                    vip.vip
                ),
                format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", interface.name),
            )
        })
        .collect()
}
