//! Whether the host's own stack would send packets on: those that the program leaves to it.

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "stack",
    examines: "whether the host's stack sends packets on (ip_forward)",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    [
        ("net/ipv4/ip_forward", "IPv4", false),
        ("net/ipv6/conf/all/forwarding", "IPv6", true),
    ]
    .into_iter()
    .filter(|(path, _, v6)| {
        let used = facts.vips.iter().any(|vip| vip.vip.address.is_ipv6() == *v6);
        used && facts.host.setting(path) == Some(0)
    })
    .map(|(path, family, _)| {
        Finding::new(
            Severity::Note,
            "",
            format!(
                "the host's stack sends no {family} packets on: what the program leaves to it, such as fragments, ends \
                 here, and a real behind a bridge, a tunnel or a container's network is reached by the stack only"
            ),
            format!("sysctl -w {}=1", path.replace('/', ".")),
        )
    })
    .collect()
}
