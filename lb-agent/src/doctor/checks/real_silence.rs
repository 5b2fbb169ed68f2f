//! Whether a real keeps the VIPs from its neighbours.

use crate::doctor::{Check, Finding, RealHostFacts, Severity};

pub static CHECK: Check<RealHostFacts> = Check {
    name: "silence",
    examines: "whether neighbours do not hear of the VIPs (ARP)",
    find,
};

fn find(facts: &RealHostFacts) -> Vec<Finding> {
    if !facts.vips.iter().any(std::net::IpAddr::is_ipv4) {
        return Vec::new();
    }
    [("arp_ignore", 1), ("arp_announce", 2)]
        .into_iter()
        .filter_map(|(name, least)| {
            let value = facts.host.setting(&format!("net/ipv4/conf/all/{name}"))?;
            (value < least).then(|| {
                Finding::new(
                    Severity::Problem,
                    "",
                    format!(
                        "net.ipv4.conf.all.{name} is {value}: neighbours may learn the VIP's address from this host and \
                         send clients' packets here, past the balancer"
                    ),
                    format!("sysctl -w net.ipv4.conf.all.{name}={least} (lb-agent real does it)"),
                )
            })
        })
        .collect()
}
