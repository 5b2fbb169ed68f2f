//! The compiler for user space.

use std::process::Command;

use anyhow::bail;

use super::Prerequisite;
use crate::command;

/// Minor version of the oldest Rust 1 that builds the workspace; see `rust-version` in Cargo.toml.
const OLDEST: u32 = 95;

pub(super) struct Rust;

impl Prerequisite for Rust {
    fn name(&self) -> &'static str {
        "Rust"
    }

    fn why(&self) -> &'static str {
        "the agent, lbctl and the tests are written in Rust, edition 2024"
    }

    fn check(&self) -> Result<String, String> {
        let version = command::ask("rustc", &["--version"]).ok_or("there is no rustc")?;
        if command::ask("rustup", &["--version"]).is_none() {
            return Err(format!(
                "{version}, but no rustup, which manages the second compiler for the kernel programs"
            ));
        }
        let minor = version
            .split(['.', ' '])
            .nth(2)
            .and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_none_or(|minor| minor < OLDEST) {
            return Err(format!("{version} is older than 1.{OLDEST}"));
        }
        for tool in ["clippy", "fmt"] {
            if command::ask("cargo", &[tool, "--version"]).is_none() {
                return Err(format!("{version}, but no `cargo {tool}`"));
            }
        }
        Ok(version)
    }

    fn provide(&self) -> anyhow::Result<()> {
        if command::ask("rustup", &["--version"]).is_none() {
            bail!("install rustup from https://rustup.rs, then run this again");
        }
        if let Err(error) = self.check()
            && !error.contains("older")
        {
            return command::run(Command::new("rustup").args([
                "component",
                "add",
                "clippy",
                "rustfmt",
            ]));
        }
        command::run(Command::new("rustup").args([
            "toolchain",
            "install",
            "stable",
            "--profile",
            "default",
        ]))?;
        bail!(
            "the latest stable Rust is installed; make it the default with `rustup default stable`, then run this again"
        )
    }
}
