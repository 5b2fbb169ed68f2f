//! The file system in memory of a virtual machine: modules of a kernel, programs with the libraries that they load, packed
//! as the kernel unpacks it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::command;

/// The version of a kernel and its image.
pub fn find(kernel: &Path) -> anyhow::Result<(String, PathBuf)> {
    for modules in ["lib/modules", "usr/lib/modules"] {
        let Ok(entries) = fs::read_dir(kernel.join(modules)) else {
            continue;
        };
        for entry in entries.flatten() {
            let version = entry.file_name().to_string_lossy().into_owned();
            let images = [
                kernel.join(format!("boot/vmlinuz-{version}")),
                entry.path().join("vmlinuz"),
            ];
            if let Some(image) = images.into_iter().find(|image| image.is_file()) {
                return Ok((version, image));
            }
        }
    }
    bail!(
        "{} has no boot/vmlinuz-VERSION with lib/modules/VERSION; unpack the packages of a kernel into it with `dpkg -x`",
        kernel.display()
    )
}

/// The folder that becomes the machine's file system.
pub struct Root(pub PathBuf);

impl Root {
    /// Makes these folders in it.
    pub fn make(&self, folders: &[&str]) -> anyhow::Result<()> {
        for folder in folders {
            fs::create_dir_all(self.0.join(folder))?;
        }
        Ok(())
    }

    /// Writes a script that can be run.
    pub fn add_script(&self, path: &str, text: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;

        let path = self.0.join(path);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Copies busybox, which is the shell and its tools.
    pub fn add_busybox(&self) -> anyhow::Result<()> {
        let busybox = command::ask("sh", &["-c", "command -v busybox"]).context("no busybox")?;
        fs::copy(busybox.trim(), self.0.join("bin/busybox"))?;
        std::os::unix::fs::symlink("busybox", self.0.join("bin/sh"))?;
        Ok(())
    }

    /// Copies modules with those that they need, and writes the order in which they are loaded to `modules/LIST`.
    pub fn add_modules(
        &self,
        kernel: &Path,
        version: &str,
        modules: &[&str],
        list: &str,
    ) -> anyhow::Result<()> {
        // The tools look in lib/modules; newer packages are laid out for a merged /usr.
        let lib = kernel.join("lib");
        if !lib.exists() {
            std::os::unix::fs::symlink("usr/lib", lib)?;
        }
        command::run(Command::new("depmod").arg("-b").arg(kernel).arg(version))?;
        let mut order: Vec<String> = Vec::new();
        for module in modules {
            let output = Command::new("modprobe")
                .arg("-d")
                .arg(kernel)
                .args(["-S", version, "--show-depends"])
                .arg(module)
                .output()
                .context("starting modprobe")?;
            // A module that a kernel does not have is missed by the tests that need it.
            let text = String::from_utf8_lossy(&output.stdout);
            for path in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = Path::new(path.trim());
                let name = path
                    .file_name()
                    .context("a module without a name")?
                    .to_string_lossy();
                let plain = name.trim_end_matches(".xz").to_owned();
                if order.contains(&plain) {
                    continue;
                }
                let target = self.0.join("modules").join(&plain);
                if plain == name {
                    fs::copy(path, target)?;
                } else {
                    let output = fs::File::create(target)?;
                    command::run(
                        Command::new("xz")
                            .args(["--decompress", "--stdout"])
                            .arg(path)
                            .stdout(output),
                    )?;
                }
                order.push(plain);
            }
        }
        fs::write(self.0.join("modules").join(list), order.join("\n"))?;
        Ok(())
    }

    /// Copies a program without its symbols, which take memory of the machine, and the libraries that it loads.
    pub fn add_program(&self, path: &Path, name: &str) -> anyhow::Result<()> {
        let target = self.0.join("programs").join(name);
        let mut strip = Command::new("strip");
        strip.args(["--strip-all", "-o"]).arg(&target).arg(path);
        let stripped = strip.status().context("starting strip")?;
        if !stripped.success() {
            fs::copy(path, &target)?;
        }
        let shown = path.to_string_lossy();
        let libraries = command::ask("ldd", &[&shown]).unwrap_or_default();
        let libraries: BTreeSet<&str> = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .collect();
        for library in libraries {
            let target = self.0.join(library.trim_start_matches('/'));
            if !target.exists() {
                fs::create_dir_all(target.parent().context("a library without a folder")?)?;
                fs::copy(library, target)?;
            }
        }
        Ok(())
    }

    /// Writes the folder as an archive that the kernel unpacks.
    pub fn pack(&self, archive: &Path) -> anyhow::Result<()> {
        let mut find = Command::new("find")
            .arg(".")
            .current_dir(&self.0)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting find")?;
        let names = find.stdout.take().context("find has no output")?;
        let cpio = Command::new("cpio")
            .args(["--create", "--format", "newc", "--quiet"])
            .current_dir(&self.0)
            .stdin(names)
            .stdout(fs::File::create(archive)?)
            .status()
            .context("starting cpio")?;
        if !find.wait()?.success() || !cpio.success() {
            bail!("packing the machine's file system failed");
        }
        Ok(())
    }
}
