//! Whether a client's largest packet still fits with what the forwarding mode adds.

use std::collections::BTreeMap;

use lb_common::ip::Family;
use lb_model::vip::Protocol;

use crate::doctor::{Check, Facts, Finding, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "mtu",
    examines: "whether interfaces have room for what the forwarding modes add",
    find,
};

/// The largest packet of a client on the Internet: Ethernet's.
const CLIENT: u32 = 1_500;

fn find(facts: &Facts) -> Vec<Finding> {
    // By mode and whether there is UDP: the most bytes that are added.
    let mut overheads: BTreeMap<&str, (u32, bool)> = BTreeMap::new();
    for vip in &facts.vips {
        for real in &vip.reals {
            let mode = real.forward.facts();
            let [vip_family, family] = [vip.vip.address, real.address].map(Family::of);
            let (most, udp) = overheads.entry(mode.name).or_default();
            *most = (*most).max(mode.growth(vip_family, family));
            *udp |= vip.vip.protocol == Protocol::Udp;
        }
    }
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let Some(link) = &interface.link else {
            continue;
        };
        for (mode, &(overhead, udp)) in &overheads {
            let needed = CLIENT + overhead;
            if overhead == 0 || link.mtu == 0 || link.mtu >= needed {
                continue;
            }
            let room = link.mtu.saturating_sub(overhead);
            let (severity, who) = if udp {
                (
                    Severity::Warning,
                    "UDP datagrams that are larger are not forwarded, and TCP relies on `lb-agent real`",
                )
            } else {
                (
                    Severity::Note,
                    "`lb-agent real` has clients send segments that fit",
                )
            };
            findings.push(Finding::new(
                severity,
                &interface.name,
                format!(
                    "{mode} adds {overhead} bytes, so with an MTU of {} packets of {room} bytes fit, and clients may send \
                     {CLIENT}; {who}",
                    link.mtu
                ),
                format!(
                    "ip link set {} mtu {needed}, and the same on all interfaces on the way to the reals",
                    interface.name
                ),
            ));
        }
    }
    findings
}
