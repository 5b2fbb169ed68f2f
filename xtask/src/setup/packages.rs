//! The distribution's packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::Prerequisite;
use crate::command;

/// Packages that are needed for one purpose.
pub(super) struct Packages {
    name: &'static str,
    why: &'static str,
    wanted: &'static [&'static str],
}

/// What the laboratory is made of.
pub(super) const LABORATORY: Packages = Packages {
    name: "packages for the laboratory",
    why: "ip and ethtool make its networks, tcpdump and ping look into it; nginx, Mosquitto, RabbitMQ, a node exporter \
          and a Docker engine are what is balanced, probed and read; Prometheus brings promtool, which checks metrics",
    wanted: &[
        "iproute2",
        "ethtool",
        "nginx-light",
        "mosquitto",
        "mosquitto-clients",
        "rabbitmq-server",
        "prometheus-node-exporter",
        "prometheus",
        "docker.io",
        "docker-cli",
        "tcpdump",
        "iputils-ping",
    ],
};

/// Services that come with packages, disabled after their installation.
const SERVICES: [(&str, &[&str]); 6] = [
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
    (
        "docker.io",
        &["docker.service", "docker.socket", "containerd.service"],
    ),
];

/// Programs that make a package unnecessary, wherever they are from: Debian's Docker engine and that of its
/// makers exclude each other, and a machine that has one keeps it.
const STAND_INS: [(&str, &str); 2] = [("docker.io", "dockerd"), ("docker-cli", "docker")];

/// Packages that not every release has: elsewhere they are a part of another one.
const NOT_EVERYWHERE: [&str; 1] = ["docker-cli"];

/// What building takes besides Rust.
pub(super) const BUILDING: Packages = Packages {
    name: "packages for building",
    why: "Rust links with the C compiler; some crates ask pkg-config",
    wanted: &["build-essential", "pkg-config"],
};

/// What building bpf-linker takes.
pub(super) const LLVM: Packages = Packages {
    name: "LLVM 22",
    why: "bpf-linker is built upon LLVM's libraries, of the version that the compiler has or a newer one",
    wanted: &[
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
        self.wanted
            .iter()
            .copied()
            .filter(|package| !installed(package) && !stood_in_for(package))
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
                "this machine has no dpkg; install what your system calls {}",
                self.wanted.join(" ")
            ));
        }
        let missing = self.missing();
        if missing.is_empty() {
            Ok(self.wanted.join(" "))
        } else {
            Err(missing.join(" "))
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        // Only then is it known what there is.
        refresh_lists(&self.missing())?;
        install(&self.missing())
    }
}

fn installed(package: &str) -> bool {
    // A package that another one provides counts by the other's name: ask for the exact one only.
    command::ask(
        "dpkg-query",
        &["--show", "--showformat=${db:Status-Status}", package],
    )
    .is_some_and(|status| status == "installed")
}

/// Whether the machine has all that is wanted of a package from elsewhere.
fn stood_in_for(package: &str) -> bool {
    STAND_INS
        .iter()
        .any(|(name, program)| *name == package && command::ask(program, &["--version"]).is_some())
}

/// Whether apt knows a version of this package that can be installed.
pub(super) fn available(package: &str) -> bool {
    command::ask("apt-cache", &["policy", package]).is_some_and(|policy| {
        policy.lines().any(|line| {
            line.trim()
                .strip_prefix("Candidate:")
                .is_some_and(|version| version.trim() != "(none)")
        })
    })
}

/// Fetches the lists of packages if one of these is not in the lists there are.
pub(super) fn refresh_lists(packages: &[&str]) -> anyhow::Result<()> {
    if packages.iter().all(|package| available(package)) {
        return Ok(());
    }
    command::run(Command::new("apt-get").args(["update", "--quiet"]))
}

/// Installs packages; services that come with them are neither started nor left for the next start of the
/// machine: the laboratory starts its own.
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
    let asleep = Asleep::new()?;
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    drop(asleep);
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

/// While it lives, packages do not start their services: the policy file that Debian asks (invoke-rc.d(8))
/// forbids it. A policy the machine has already is left alone.
struct Asleep(Option<PathBuf>);

impl Asleep {
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

impl Drop for Asleep {
    fn drop(&mut self) {
        if let Some(policy) = &self.0
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!(
                "{} could not be removed ({error}); remove it by hand",
                policy.display()
            );
        }
    }
}
