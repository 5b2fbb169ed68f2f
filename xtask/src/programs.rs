//! Builds the programs of the workspace.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{self, cargo};

/// Environment variable with the folder of the built programs, for tests and the demonstration.
pub const FOLDER: &str = "LB_BIN_DIR";

/// The packages with `lb-agent`, `lb-controller`, `lbctl` and `lb-proxy`.
pub const PRODUCT: [&str; 4] = ["lb-agent", "lb-controller", "lb-ctl", "lb-proxy"];

/// What the demonstration needs.
pub const DEMONSTRATION: [&str; 3] = ["lb-agent", "lb-ctl", "lb-demo"];

/// What the tests need: the product, and the demonstration of it.
pub const TESTED: [&str; 5] = ["lb-agent", "lb-controller", "lb-ctl", "lb-demo", "lb-proxy"];

/// How programs are built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// For tests.
    Debug,
    /// For use.
    Release,
}

/// Builds these packages and returns the folder that holds their programs.
pub fn build(profile: Profile, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.arg("build");
    for package in packages {
        build.args(["--package", package]);
    }
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            build.arg("--release");
            "release"
        }
    };
    command::run(&mut build)?;
    let metadata = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("asking cargo for its target folder")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .context("reading the output of `cargo metadata`")?;
    let target = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` prints no target folder")?;
    Ok(PathBuf::from(target).join(folder))
}
