//! Packages of the distribution.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::Prerequisite;
use crate::command;

/// Packages for one purpose.
pub(super) struct Packages {
    name: &'static str,
    why: &'static str,
    packages: &'static [&'static str],
}

/// What testbeds are made of.
pub(super) const TESTBED: Packages = Packages {
    name: "packages for testbeds",
    why: "ip and ethtool build networks, tcpdump and ping inspect them; nginx, Mosquitto, RabbitMQ, a node exporter, \
          Redis, BIND and Knot (dig and nsupdate ask and change them), collectd (with what its page needs) and a Docker engine are balanced, probed and read; Prometheus brings promtool, which checks metrics; tshark reads what lbctl has captured; systemd brings systemd-analyze, which checks units",
    packages: &[
        "iproute2",
        "ethtool",
        "nginx-light",
        "mosquitto",
        "mosquitto-clients",
        "rabbitmq-server",
        "prometheus-node-exporter",
        "prometheus",
        "redis-server",
        "bind9",
        "bind9-dnsutils",
        "knot",
        "collectd-core",
        "libprotobuf-c1",
        "libmicrohttpd12",
        "docker.io",
        "docker-cli",
        "tcpdump",
        "tshark",
        "iputils-ping",
        "systemd",
    ],
};

/// What `cargo xtask bench http` compares with, and its load generators.
pub(super) const PROXIES: Packages = Packages {
    name: "packages for comparing proxies",
    why: "HAProxy and nginx are what lb-proxy is compared with; wrk and h2load send the requests",
    packages: &["haproxy", "nginx-light", "wrk", "nghttp2-client"],
};

/// What `cargo xtask bench nat` compares with.
pub(super) const PACKET_FILTER: Packages = Packages {
    name: "packages for comparing translation of addresses",
    why: "nftables is what mode nat is compared with",
    packages: &["nftables"],
};

/// Services of packages, which are disabled after the installation.
const SERVICES: [(&str, &[&str]); 12] = [
    ("nftables", &["nftables.service"]),
    ("haproxy", &["haproxy.service"]),
    ("nginx-light", &["nginx.service"]),
    ("mosquitto", &["mosquitto.service"]),
    (
        "rabbitmq-server",
        &["rabbitmq-server.service", "epmd.service", "epmd.socket"],
    ),
    (
        "prometheus-node-exporter",
        &["prometheus-node-exporter.service"],
    ),
    ("prometheus", &["prometheus.service"]),
    ("redis-server", &["redis-server.service"]),
    ("bind9", &["named.service"]),
    ("knot", &["knot.service"]),
    ("collectd-core", &["collectd.service"]),
    (
        "docker.io",
        &["docker.service", "docker.socket", "containerd.service"],
    ),
];

/// Programs that replace a package, wherever they come from: Debian's Docker packages and Docker's own exclude each
/// other, and a machine keeps the ones it has.
const STAND_INS: [(&str, &str); 2] = [("docker.io", "dockerd"), ("docker-cli", "docker")];

/// Packages that exist in some releases only; in others they are part of another package.
const NOT_EVERYWHERE: [&str; 1] = ["docker-cli"];

/// What builds need besides Rust.
pub(super) const BUILDING: Packages = Packages {
    name: "packages for building",
    why: "Rust links with the C compiler; some crates use pkg-config",
    packages: &["build-essential", "pkg-config"],
};

/// What virtual machines are made of: those of the driver `qemu`, and those with another kernel.
pub(super) const VIRTUAL_MACHINE: Packages = Packages {
    name: "packages for virtual machines",
    why: "QEMU emulates them, and makes their disks; busybox, cpio, kmod and xz make their file systems",
    packages: &[
        "qemu-system-x86",
        "qemu-utils",
        "busybox-static",
        "cpio",
        "kmod",
        "xz-utils",
    ],
};

/// What a build of bpf-linker needs.
pub(super) const LLVM: Packages = Packages {
    name: "LLVM 22",
    why: "bpf-linker needs LLVM's libraries, of the compiler's version or a newer one",
    packages: &[
        "llvm-22-dev",
        "libpolly-22-dev",
        "zlib1g-dev",
        "libzstd-dev",
        "pkg-config",
        "build-essential",
    ],
};

impl Packages {
    fn missing(&self) -> Vec<&'static str> {
        self.packages
            .iter()
            .copied()
            .filter(|package| !installed(package) && !is_replaced(package))
            .filter(|package| !NOT_EVERYWHERE.contains(package) || available(package))
            .collect()
    }
}

impl Prerequisite for Packages {
    fn name(&self) -> &'static str {
        self.name
    }

    fn why(&self) -> &'static str {
        self.why
    }

    fn check(&self) -> Result<String, String> {
        if command::ask("dpkg-query", &["--version"]).is_none() {
            return Err(format!(
                "this machine has no dpkg; install your system's packages for {}",
                self.packages.join(" ")
            ));
        }
        let missing = self.missing();
        if missing.is_empty() {
            Ok(self.packages.join(" "))
        } else {
            Err(missing.join(" "))
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        // The lists say which packages this release has.
        refresh_lists(&self.missing())?;
        install(&self.missing())?;
        // One that came from another release, as backports are, may exclude what was installed: apt has removed it then, and
        // this release's takes its place.
        install(&self.missing())
    }
}

fn installed(package: &str) -> bool {
    // Only the exact package counts, not one that another package provides.
    command::ask(
        "dpkg-query",
        &["--show", "--showformat=${db:Status-Status}", package],
    )
    .is_some_and(|status| status == "installed")
}

/// Returns whether a program from elsewhere replaces the package.
fn is_replaced(package: &str) -> bool {
    STAND_INS
        .iter()
        .any(|(name, program)| *name == package && command::ask(program, &["--version"]).is_some())
}

/// Returns whether apt can install this package.
pub(super) fn available(package: &str) -> bool {
    command::ask("apt-cache", &["policy", package]).is_some_and(|policy| {
        policy.lines().any(|line| {
            line.trim()
                .strip_prefix("Candidate:")
                .is_some_and(|version| version.trim() != "(none)")
        })
    })
}

/// Updates apt's lists if one of these packages is not in them.
pub(super) fn refresh_lists(packages: &[&str]) -> anyhow::Result<()> {
    if packages.iter().all(|package| available(package)) {
        return Ok(());
    }
    command::run(Command::new("apt-get").args(["update", "--quiet"]))
}

/// Installs packages. Their services are neither started nor left enabled: tests start servers of their own.
pub(super) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    refresh_lists(packages)?;
    let unknown: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !available(package))
        .collect();
    if !unknown.is_empty() {
        bail!(
            "apt has no package {}; {}",
            unknown.join(" "),
            if unknown.iter().any(|package| package.contains("-22")) {
                "LLVM's own packages for Debian and Ubuntu are at https://apt.llvm.org: add that source for \
                 version 22, then run this again; or put a bpf-linker 0.13.0 on the path, for example with \
                 `cargo binstall bpf-linker@0.13.0`"
            } else {
                "enable the distribution's main repositories, then run this again"
            }
        );
    }
    let no_services = NoServices::new()?;
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    drop(no_services);
    if Path::new("/run/systemd/system").exists() {
        for (_, services) in SERVICES
            .iter()
            .filter(|(package, _)| packages.contains(package))
        {
            command::run(Command::new("systemctl").arg("disable").args(*services))?;
        }
    }
    Ok(())
}

/// While this value exists, packages do not start their services, because Debian's policy file (invoke-rc.d(8)) forbids
/// it. An existing policy file is not changed.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;

        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self(None));
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("writing {}", policy.display()))?;
        Ok(Self(Some(policy)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.0
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!(
                "removing {} failed ({error}); remove it by hand",
                policy.display()
            );
        }
    }
}
