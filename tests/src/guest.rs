//! The image of virtual machines that `cargo xtask image` builds.

use std::{env, path::PathBuf};

/// The variable that names its folder; `cargo xtask test` sets it when it has built the image.
const FOLDER_VARIABLE: &str = "LB_GUEST_DIR";

/// Returns the path of a file of the image: `vmlinuz`, `initrd-bare`, `initrd-proxy` or `initrd`.
#[must_use]
pub fn guest(file: &str) -> PathBuf {
    let folder = env::var_os(FOLDER_VARIABLE).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/guest")),
        PathBuf::from,
    );
    folder.join(file)
}
