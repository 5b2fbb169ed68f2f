//! The programs under test.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, anyhow, bail};

/// The variable that names their folder; `cargo xtask` sets it when it has built them.
const FOLDER_VARIABLE: &str = "LB_BIN_DIR";

/// Returns the path of `lb-agent`, `lb-controller`, `lbctl` or `lb-proxy`. Unless `LB_BIN_DIR` names their folder, the first call
/// in a process builds them.
///
/// # Errors
/// Fails if they cannot be built, or there is no such program.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER
        .get_or_init(|| folder().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|message| anyhow!("{message}"))?;
    let path = folder.join(name);
    if !path.is_file() {
        bail!(
            "{} does not exist; `cargo build -p lb-agent -p lb-controller -p lb-ctl -p lb-proxy` builds it",
            path.display()
        );
    }
    Ok(path)
}

fn folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        return Ok(folder.into());
    }
    let executable = env::current_exe().context("asking for the path of this program")?;
    // target/<profile>/deps/<test>-<hash>
    let folder = executable
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name().is_none_or(|name| name != "deps"))
        .context("this program is in no folder")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "lb-agent",
        "--package",
        "lb-controller",
        "--package",
        "lb-ctl",
        "--package",
        "lb-proxy",
    ]);
    if folder.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    cargo.current_dir(workspace());
    // What cargo tells this program of its package would make build scripts run again (see xtask's `command::cargo`).
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .status()
        .context("starting cargo to build the programs")?;
    if !status.success() {
        bail!("cargo could not build the programs ({status})");
    }
    Ok(folder.to_owned())
}

fn workspace() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}
