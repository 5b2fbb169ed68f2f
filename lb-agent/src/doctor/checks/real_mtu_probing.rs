//! Whether TCP finds out by itself that packets are too large.

use crate::doctor::{Check, Finding, RealHostFacts, Severity};

pub static CHECK: Check<RealHostFacts> = Check {
    name: "mtu_probing",
    examines: "whether TCP finds path MTUs where ICMP is lost",
    find,
};

fn find(facts: &RealHostFacts) -> Vec<Finding> {
    if facts.host.setting("net/ipv4/tcp_mtu_probing") != Some(0) {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Warning,
        "",
        "net.ipv4.tcp_mtu_probing is 0: connections of clients whose network drops ICMP errors may stall",
        "sysctl -w net.ipv4.tcp_mtu_probing=1 (lb-agent real does it)",
    )]
}
