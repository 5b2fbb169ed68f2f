//! The compiler for the kernel programs. It builds `core` itself, so it needs the source of its library.

mod distribution;
mod rustup;

use std::{cell::Cell, fs, path::Path, process::Command};

use anyhow::Context as _;

use super::{Prerequisite, Source, linker::LLVM_MAJOR};
use crate::command;

/// The toolchain that the agent's build script looks for first.
const OWN_TOOLCHAIN: &str = "lb-ebpf";

pub(super) struct Compiler {
    source: Source,
    // A source that was asked for is installed even if there is a compiler.
    done: Cell<bool>,
}

impl Compiler {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            done: Cell::new(source == Source::Auto),
        }
    }
}

impl Prerequisite for Compiler {
    fn name(&self) -> &'static str {
        "compiler for the kernel programs"
    }

    fn why(&self) -> &'static str {
        "there is no prebuilt core library for the BPF target, so it is built from source (-Z build-std)"
    }

    fn check(&self) -> Result<String, String> {
        if !self.done.get() {
            return Err("to be installed again, as requested".to_owned());
        }
        // The order of the agent's build script: the project's own toolchain wins if it is installed, usable or not.
        if installed(OWN_TOOLCHAIN) {
            return usable(OWN_TOOLCHAIN);
        }
        usable("nightly")
    }

    fn provide(&self) -> anyhow::Result<()> {
        match self.source {
            Source::Rustup => rustup::provide()?,
            Source::Distribution => distribution::provide()?,
            Source::Auto => {
                if let Err(error) = rustup::provide() {
                    println!("         rustup cannot install it: {error:#}");
                    println!("         using the distribution's compiler instead");
                    distribution::provide()?;
                }
            }
        }
        self.done.set(true);
        Ok(())
    }
}

fn installed(toolchain: &str) -> bool {
    command::ask("rustup", &["toolchain", "list"]).is_some_and(|list| {
        list.lines()
            .any(|line| line.split_whitespace().next() == Some(toolchain))
    })
}

/// Checks whether a toolchain can build the kernel programs; returns its description, or what it lacks.
fn usable(toolchain: &str) -> Result<String, String> {
    let ask = |arguments: &[&str]| {
        command::ask(
            "rustup",
            &[&["run", toolchain, "rustc"], arguments].concat(),
        )
    };
    let version = ask(&["-vV"])
        .ok_or_else(|| format!("the toolchain `{toolchain}` is missing or does not run"))?;
    let field = |name: &str| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
            .unwrap_or("unknown")
            .to_owned()
    };
    let (release, llvm) = (field("release:"), field("LLVM version:"));
    let major = llvm
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major > LLVM_MAJOR) {
        return Err(format!(
            "`{toolchain}` has LLVM {llvm}, newer than the linker's ({LLVM_MAJOR})"
        ));
    }
    let root = ask(&["--print", "sysroot"])
        .ok_or_else(|| format!("`{toolchain}` does not print its sysroot"))?;
    let library = Path::new(&root).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    let Ok(library) = fs::canonicalize(&library) else {
        return Err(format!(
            "`{toolchain}` ({release}) has no library source ({})",
            library.display()
        ));
    };
    // Distributions put the version into the folder's name. A compiler cannot build the library of another version.
    let other = library.components().find_map(|part| {
        let source = part
            .as_os_str()
            .to_str()?
            .strip_prefix("rustc-")?
            .to_owned();
        (source != release).then_some(source)
    });
    match other {
        Some(source) => Err(format!(
            "`{toolchain}` is {release}, but its library source is {source}"
        )),
        None => Ok(format!(
            "`{toolchain}`, {release}, LLVM {llvm}, with library source"
        )),
    }
}

/// Links a folder as the toolchain that the build script looks for. The link is replaced atomically, so concurrent builds
/// see the old one or the new one.
fn link_toolchain(folder: &Path) -> anyhow::Result<()> {
    let fresh = format!("{OWN_TOOLCHAIN}-{}", std::process::id());
    command::run(
        Command::new("rustup")
            .args(["toolchain", "link", &fresh])
            .arg(folder),
    )?;
    let home = command::ask("rustup", &["show", "home"]).context("`rustup show home` fails")?;
    let toolchains = Path::new(&home).join("toolchains");
    fs::rename(toolchains.join(&fresh), toolchains.join(OWN_TOOLCHAIN))
        .with_context(|| format!("renaming the toolchain {fresh} to {OWN_TOOLCHAIN}"))
}
