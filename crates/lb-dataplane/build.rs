//! Builds the kernel programs; the agent embeds the objects.
//!
//! The compiler is, in this order: the rustup toolchain that `LB_EBPF_TOOLCHAIN` names, the one called
//! `lb-ebpf` (made by `cargo xtask setup` where rustup cannot fetch `rust-src`), `nightly`.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

/// The toolchain that `cargo xtask setup` makes of a distribution's compiler and library source.
const OWN_TOOLCHAIN: &str = "lb-ebpf";

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-env-changed=LB_EBPF_TOOLCHAIN");
    println!("cargo:rerun-if-changed=../../lb-common/src");
    let toolchain = toolchain();
    if toolchain != "nightly" {
        // SAFETY: this build script has one thread. A distribution's compiler is a stable one:
        // `-Z build-std` needs this variable.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
    }
    for target in ["BPFEL", "BPFEB"] {
        // SAFETY: as above.
        unsafe {
            std::env::set_var(format!("CARGO_TARGET_{target}_UNKNOWN_NONE_LINKER"), LINKER);
        }
    }
    // First the balancer for tables of the previous layout: both builds write OUT_DIR/balancer.
    let previous = Package {
        features: &["layout-2"],
        no_default_features: true,
        ..PROGRAMS
    };
    build(previous, &toolchain)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    std::fs::rename(out.join("balancer"), out.join("balancer-layout-2"))
        .context("setting the balancer for the previous layout aside")?;
    build(PROGRAMS, &toolchain)
}

/// bpf-linker for the instruction set that the programs use.
const LINKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lb-ebpf/linker.sh");

const PROGRAMS: Package<'static> = Package {
    name: "lb-ebpf",
    root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../../lb-ebpf"),
    no_default_features: false,
    features: &[],
};

fn build(package: Package<'_>, toolchain: &str) -> anyhow::Result<()> {
    build_ebpf([package], Toolchain::Custom(toolchain)).with_context(|| {
        format!("building the kernel programs with the toolchain `{toolchain}`; `cargo xtask setup` installs what it needs")
    })
}

fn toolchain() -> String {
    if let Ok(name) = std::env::var("LB_EBPF_TOOLCHAIN") {
        return name;
    }
    let installed = Command::new("rustup").args(["toolchain", "list"]).output();
    let own = installed.is_ok_and(|list| {
        String::from_utf8_lossy(&list.stdout)
            .lines()
            .any(|line| line.split_whitespace().next() == Some(OWN_TOOLCHAIN))
    });
    if own { OWN_TOOLCHAIN } else { "nightly" }.to_owned()
}
