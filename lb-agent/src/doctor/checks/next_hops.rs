//! Whether the ways to the reals are known.

use crate::{
    control::RealState,
    doctor::{Check, Facts, Finding, Severity},
};

pub static CHECK: Check<Facts> = Check {
    name: "next_hops",
    examines: "whether routes and neighbours to the reals are known",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for vip in &facts.vips {
        for real in &vip.reals {
            if real.state != RealState::Unreachable {
                continue;
            }
            let address = real.address;
            let about = format!("the real {address} is unreachable: ");
            let reason = facts
                .warnings
                .iter()
                .find_map(|warning| warning.strip_prefix(&about))
                .unwrap_or("its next hop is not known");
            let ping = if address.is_ipv6() { "ping -6" } else { "ping" };
            findings.push(Finding::new(
                Severity::Problem,
                format!("{} real {address}", vip.vip),
                format!("packets for it are dropped: {reason}"),
                format!("ip route get {address}; {ping} -c 1 {address}"),
            ));
        }
    }
    findings
}
