//! Whether the reals take clients' packets, as far as probes tell: the VIP's address and decapsulation are there.

use lb_model::{
    check::Via,
    options::Forward,
    vip::{Protocol, VipKey},
};

use crate::{
    control::RealState,
    doctor::{Check, Facts, Finding, Severity, VipFacts},
};

pub static CHECK: Check<Facts> = Check {
    name: "reals",
    examines: "whether probes find the VIP and the decapsulation on the reals",
    find,
};

fn find(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for vip in &facts.vips {
        let name = vip.vip;
        match vip.check {
            None if !vip.reals.is_empty() => findings.push(Finding::new(
                Severity::Warning,
                name.to_string(),
                "it has no health check: a real that does not answer is not noticed",
                format!("lbctl set-vip {name} --check '{} via=tunnel'", kind(name)),
            )),
            Some(Via::Direct) if has(vip, Forward::Ipip) => findings.push(Finding::new(
                Severity::Note,
                name.to_string(),
                "probes go to the reals' own addresses: a real without the VIP, or without decapsulation, is not noticed",
                format!(
                    "lbctl set-vip {name} --check 'KIND via=tunnel', with the settings that the check has (lbctl list -o \
                     wide)"
                ),
            )),
            _ => {}
        }
        if vip.reals.is_empty() {
            findings.push(Finding::new(
                Severity::Warning,
                name.to_string(),
                "it has no real, so its packets go nowhere",
                format!("lbctl add-real {name} ADDRESS"),
            ));
        }
        if vip.keeps_source && !has(vip, Forward::Nat) {
            findings.push(Finding::new(
                Severity::Note,
                name.to_string(),
                "source = client has no effect: it is a setting of mode nat, and no real has that mode",
                format!("lbctl set-vip {name} --source balancer, or lbctl set-real {name} ADDRESS --mode nat"),
            ));
        }
        for real in &vip.reals {
            let Some(reason) = &real.probe_failure else {
                continue;
            };
            // Of a real without a way to it nothing else is to be said.
            if real.state == RealState::Unreachable {
                continue;
            }
            let address = real.address;
            let (seen, mend) = if vip.check == Some(Via::Tunnel) && real.forward != Forward::Nat {
                (
                    format!(
                        "probes on the way of clients' packets fail: {reason}; the server may be down, or the VIP or the \
                         decapsulation is missing there"
                    ),
                    format!(
                        "on {address}: lb-agent doctor --iface IFACE --vip {}",
                        name.address
                    ),
                )
            } else {
                (
                    format!("probes fail: {reason}"),
                    format!("lbctl why {address}; look at the server on {address}"),
                )
            };
            findings.push(Finding::new(
                Severity::Problem,
                format!("{name} real {address}"),
                seen,
                mend,
            ));
        }
    }
    findings
}

/// Whether packets reach a real of the VIP in this mode.
fn has(vip: &VipFacts, mode: Forward) -> bool {
    vip.reals.iter().any(|real| real.forward == mode)
}

/// A check that fits any service of the protocol: for SCTP, which no kind speaks, that of a program.
fn kind(vip: VipKey) -> &'static str {
    match vip.protocol {
        Protocol::Tcp | Protocol::TcpUdp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "exec",
    }
}
