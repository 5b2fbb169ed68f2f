//! The image of the demonstration's server: the program alone, and the libraries that it needs if it is linked dynamically.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use lb_tests::server::DockerEngine;

/// The name of the image.
pub const NAME: &str = "lb-demo-server";
/// The program in the image.
pub const PROGRAM: &str = "/lb-demo-server";

/// Makes the image of a program.
pub fn make(engine: &DockerEngine, program: &Path) -> anyhow::Result<()> {
    let root = tempfile::Builder::new()
        .prefix("lb-image-")
        .tempdir()
        .context("making a folder for the image")?;
    // Folders of this kind are for their owner alone; this one becomes the container's root.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
    put(root.path(), program, Path::new(PROGRAM))?;
    for library in libraries(program)? {
        put(root.path(), &library, &library)?;
    }
    engine.import_folder(root.path(), NAME)
}

/// Copies a file into the image.
fn put(root: &Path, file: &Path, place: &Path) -> anyhow::Result<()> {
    let place = root.join(place.strip_prefix("/").unwrap_or(place));
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(file, &place)
        .with_context(|| format!("copying {} to {}", file.display(), place.display()))?;
    Ok(())
}

/// Returns the libraries of a program and its dynamic linker; none if it is linked statically.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd, which lists the libraries of a program")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("statically linked") || !output.status.success() {
        // It says `not a dynamic executable` of some, and fails.
        return Ok(Vec::new());
    }
    ensure!(
        !text.contains("not found"),
        "{} needs a library that this machine does not have:\n{text}",
        program.display()
    );
    Ok(text.lines().filter_map(library).collect())
}

/// Reads a line of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x…)`, or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let place = line.split_once("=>").map_or(line, |(_, place)| place);
    let path = place.split_whitespace().next()?;
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_file() {
        let lines = [
            "\tlinux-vdso.so.1 (0x00007ffd)",
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
        ];
        let read: Vec<_> = lines.into_iter().filter_map(library).collect();
        let files = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(read, files.map(PathBuf::from));
    }
}
