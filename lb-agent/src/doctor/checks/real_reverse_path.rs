//! Whether a real takes clients' packets that the balancer sent on.

use crate::doctor::{Check, Finding, RealHostFacts, Severity};

pub static CHECK: Check<RealHostFacts> = Check {
    name: "reverse_path",
    examines: "whether the reverse-path filter takes clients' packets",
    find,
};

fn find(facts: &RealHostFacts) -> Vec<Finding> {
    if !facts.vips.iter().any(std::net::IpAddr::is_ipv4) {
        return Vec::new();
    }
    let strict = |name: &str| facts.host.reverse_path_filter(name) == 1;
    let interfaces = facts.interfaces.iter().filter(|at| strict(&at.name));
    interfaces
        .map(|interface| {
            Finding::new(
                Severity::Warning,
                &interface.name,
                "the reverse-path filter is strict: packets of clients whose route leads by another interface are dropped",
                format!(
                    "sysctl -w net.ipv4.conf.{}.rp_filter=2 (lb-agent real does it)",
                    interface.name
                ),
            )
        })
        .collect()
}
