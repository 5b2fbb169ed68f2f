//! Builds the programs of the workspace.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{self, cargo};

/// Environment variable with the folder of the built programs, for tests and the demonstration.
pub const FOLDER: &str = "LB_BIN_DIR";

/// The packages with `lb-agent`, `lb-controller`, `lbctl` and `lb-proxy`.
pub const PRODUCT: [&str; 4] = ["lb-agent", "lb-controller", "lb-ctl", "lb-proxy"];

/// The package with the demonstrations, and the one with the server that one of them runs in containers.
const DEMO: &str = "lb-demo";
const DEMO_SERVER: &str = "lb-demo-server";

/// What the tests and the demonstrations need: the product, and the demonstrations of it.
pub const DEMONSTRATION: [&str; 5] = ["lb-agent", "lb-controller", "lb-ctl", DEMO, "lb-proxy"];

/// How programs are built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// For tests.
    Debug,
    /// For use.
    Release,
}

impl Profile {
    fn option(self) -> Option<&'static str> {
        match self {
            Profile::Debug => None,
            Profile::Release => Some("--release"),
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
        }
    }
}

/// Builds these packages and returns the folder that holds their programs.
pub fn build(profile: Profile, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.arg("build").args(profile.option());
    for package in packages {
        build.args(["--package", package]);
    }
    command::run(&mut build)?;
    if packages.contains(&DEMO) {
        // Linked statically, it is all that its image needs.
        let mut build = cargo();
        build
            .args(["rustc", "--package", DEMO_SERVER])
            .args(profile.option());
        command::run(build.args(["--", "-C", "target-feature=+crt-static"]))?;
    }
    let metadata = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("asking cargo for its target folder")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .context("reading the output of `cargo metadata`")?;
    let target = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` prints no target folder")?;
    Ok(PathBuf::from(target).join(profile.folder()))
}
