//! Building the project's own programs.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{self, cargo};

/// How programs are built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// As tests are.
    Debug,
    /// As they are used.
    Release,
}

/// Builds `lb-agent` and `lbctl` and gives the folder they are in.
pub fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", "lb-agent", "--package", "lb-ctl"]);
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            build.arg("--release");
            "release"
        }
    };
    command::run(&mut build)?;
    let mut ask = cargo();
    ask.args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata = ask.output().context("asking cargo for its target folder")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .context("reading what `cargo metadata` printed")?;
    let target = metadata["target_directory"]
        .as_str()
        .context("`cargo metadata` names no target folder")?;
    Ok(PathBuf::from(target).join(folder))
}
