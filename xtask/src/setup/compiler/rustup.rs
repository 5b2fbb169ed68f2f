//! A nightly toolchain with its library source, from rustup.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};

use super::{installed, link_toolchain, usable};
use crate::command;

/// The last nightly that is known to have the LLVM of bpf-linker.
const KNOWN_NIGHTLY: &str = "nightly-2026-05-20";

/// How long a download may take: rustup waits long for a server that does not answer.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) fn provide() -> anyhow::Result<()> {
    if installed_nightly() {
        if usable("nightly").is_err() {
            download(&["component", "add", "rust-src", "--toolchain", "nightly"])?;
        }
        match usable("nightly") {
            Ok(_) => return link_toolchain(&root("nightly")?),
            Err(lack) => println!("         {lack}"),
        }
    }
    // The latest nightly may have a newer LLVM than bpf-linker.
    download(&[
        "toolchain",
        "install",
        KNOWN_NIGHTLY,
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ])?;
    usable(KNOWN_NIGHTLY).map_err(anyhow::Error::msg)?;
    link_toolchain(&root(KNOWN_NIGHTLY)?)
}

fn installed_nightly() -> bool {
    // rustup appends the host's name, except to a toolchain that was linked by hand.
    installed("nightly")
        || command::ask("rustup", &["toolchain", "list"])
            .is_some_and(|list| list.lines().any(has_no_date))
}

fn has_no_date(toolchain: &str) -> bool {
    toolchain
        .strip_prefix("nightly-")
        .is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_alphabetic()))
}

fn root(toolchain: &str) -> anyhow::Result<std::path::PathBuf> {
    let root = command::ask("rustup", &["run", toolchain, "rustc", "--print", "sysroot"])
        .with_context(|| format!("the toolchain `{toolchain}` does not print its sysroot"))?;
    if !Path::new(&root).is_dir() {
        bail!("the toolchain `{toolchain}` prints the sysroot {root}, which is not a folder");
    }
    Ok(root.into())
}

fn download(arguments: &[&str]) -> anyhow::Result<()> {
    command::run_within(
        LIMIT,
        Command::new("rustup")
            .env("RUSTUP_MAX_RETRIES", "1")
            .args(arguments),
    )
}
