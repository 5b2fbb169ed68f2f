//! The distribution's compiler and library source, unpacked into the cache. Installing them would replace rustup or the
//! machine's own rustc.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::link_toolchain;
use crate::{
    command,
    setup::{linker::install_llvm_library, packages},
};

/// Debian's newest compiler, which it packages for browsers, and its library source.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "libstd-rust-web-dev"];

pub(super) fn provide() -> anyhow::Result<()> {
    packages::refresh_lists(&PACKAGES)?;
    let unknown: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|package| !packages::available(package))
        .collect();
    if !unknown.is_empty() {
        bail!(
            "this distribution has no {} (Debian 12 has, in its security and updates repositories); \
             let rustup reach https://static.rust-lang.org and run `rustup toolchain install nightly --component \
             rust-src`, then run this again",
            unknown.join(" ")
        );
    }
    install_llvm_library()?;
    let cache = cache()?;
    let fresh = cache.join(format!("new-{}", std::process::id()));
    let result = unpack(&fresh).and_then(|version| {
        let target = cache.join(version);
        put(&fresh, &target)?;
        link_toolchain(&target.join("usr"))
    });
    if result.is_err() && fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    result
}

/// Downloads the packages, unpacks them into `folder`, and returns the compiler's version.
fn unpack(folder: &Path) -> anyhow::Result<String> {
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("making {}", archives.display()))?;
    let library = library_package()?;
    command::run(
        Command::new("apt-get")
            .current_dir(&archives)
            .arg("download")
            .args(PACKAGES)
            .arg(&library),
    )?;
    for archive in fs::read_dir(&archives)? {
        command::run(
            Command::new("dpkg")
                .arg("-x")
                .arg(archive?.path())
                .arg(folder),
        )?;
    }
    fs::remove_dir_all(&archives)?;
    // `rustup run` adds only lib/ to the library path, so rustc must find its driver there.
    let libraries = folder.join("usr/lib");
    for file in fs::read_dir(libraries.join("x86_64-linux-gnu"))
        .context("looking for the compiler's library")?
    {
        let name = file?.file_name();
        if name.to_string_lossy().starts_with("librustc_driver-") {
            symlink(
                Path::new("x86_64-linux-gnu").join(&name),
                libraries.join(&name),
            )?;
        }
    }
    let rustc = folder.join("usr/bin/rustc");
    let version = Command::new(&rustc)
        .env("LD_LIBRARY_PATH", &libraries)
        .arg("--version")
        .output()
        .with_context(|| format!("starting {}", rustc.display()))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    match version.split_whitespace().nth(1) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{} does not run", rustc.display()),
    }
}

/// Returns the package with the compiler's own library, whose name contains the version.
fn library_package() -> anyhow::Result<String> {
    command::ask("apt-cache", &["depends", "libstd-rust-web-dev"])
        .and_then(|list| {
            list.lines()
                .find_map(|line| line.trim().strip_prefix("Depends: "))
                .filter(|name| name.starts_with("libstd-rust-web-"))
                .map(str::to_owned)
        })
        .context("`apt-cache depends libstd-rust-web-dev` names no library package")
}

/// Moves a folder to `target` and removes what was there.
fn put(fresh: &Path, target: &Path) -> anyhow::Result<()> {
    let old = target.with_extension(format!("old-{}", std::process::id()));
    if target.exists() {
        fs::rename(target, &old).with_context(|| format!("moving {} away", target.display()))?;
    }
    fs::rename(fresh, target)
        .with_context(|| format!("moving {} to {}", fresh.display(), target.display()))?;
    if old.exists() {
        fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    Ok(())
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("lb/ebpf-toolchain"))
}
