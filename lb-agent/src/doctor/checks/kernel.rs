//! The kernel: its version, and what it compiles programs to.

use lb_model::check::Via;

use crate::doctor::{Check, Facts, Finding, HostFacts, RealHostFacts, Severity};

pub static CHECK: Check<Facts> = Check {
    name: "kernel",
    examines: "the kernel's version and its compiler of programs",
    find,
};

/// The same on a real.
pub static REAL: Check<RealHostFacts> = Check {
    name: CHECK.name,
    examines: CHECK.examines,
    find: |facts| common(&facts.host),
};

/// The oldest kernel, and the oldest one for probes through the tunnel.
const OLDEST: (u32, u32) = (5, 15);
const TCX: (u32, u32) = (6, 6);

fn find(facts: &Facts) -> Vec<Finding> {
    let mut findings = common(&facts.host);
    let tunnelled = facts.vips.iter().find(|vip| vip.check == Some(Via::Tunnel));
    if let (Some(vip), Some(version)) = (tunnelled, version(&facts.host.kernel))
        && version < TCX
    {
        findings.push(Finding::new(
            Severity::Warning,
            vip.vip.to_string(),
            format!(
                "its check has via=tunnel, which needs Linux 6.6, and this is {}: its reals are not probed",
                facts.host.kernel
            ),
            format!("lbctl set-vip {} --check 'KIND via=direct', or a newer kernel", vip.vip),
        ));
    }
    findings
}

fn common(host: &HostFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if version(&host.kernel).is_some_and(|version| version < OLDEST) {
        findings.push(Finding::new(
            Severity::Problem,
            "",
            format!(
                "Linux {} is older than 5.15, with which nothing is tested",
                host.kernel
            ),
            "install a newer kernel",
        ));
    }
    if host.setting("net/core/bpf_jit_enable") == Some(0) {
        findings.push(Finding::new(
            Severity::Problem,
            "",
            "the kernel interprets programs instead of compiling them, which is many times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ));
    }
    findings
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
