//! The compiler for the kernel half: it must build `core` itself, so it needs its library's source.

mod distribution;
mod rustup;

use std::{cell::Cell, fs, path::Path, process::Command};

use anyhow::Context as _;

use super::{Prerequisite, Source, linker::LLVM_MAJOR};
use crate::command;

/// The name under which the agent's build script looks for a compiler first.
const OWN_TOOLCHAIN: &str = "lb-ebpf";

pub(super) struct Compiler {
    source: Source,
    // Asked for from a certain source, it is made even if there is one.
    made: Cell<bool>,
}

impl Compiler {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            made: Cell::new(source == Source::Auto),
        }
    }
}

impl Prerequisite for Compiler {
    fn name(&self) -> &'static str {
        "compiler for the kernel half"
    }

    fn why(&self) -> &'static str {
        "there is no ready-made core library for the BPF target: it is built from its source (-Z build-std)"
    }

    fn check(&self) -> Result<String, String> {
        if !self.made.get() {
            return Err("to be made anew, as asked".to_owned());
        }
        // The order of lb-agent/build.rs: its own wins if it is there, usable or not.
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
                    println!("         rustup cannot: {error:#}");
                    println!("         so the distribution's compiler is used");
                    distribution::provide()?;
                }
            }
        }
        self.made.set(true);
        Ok(())
    }
}

fn installed(toolchain: &str) -> bool {
    command::ask("rustup", &["toolchain", "list"]).is_some_and(|list| {
        list.lines()
            .any(|line| line.split_whitespace().next() == Some(toolchain))
    })
}

/// Whether a toolchain can build the kernel half; what it is, or what it lacks.
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
        .ok_or_else(|| format!("`{toolchain}` does not tell its root"))?;
    let library = Path::new(&root).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    let Ok(library) = fs::canonicalize(&library) else {
        return Err(format!(
            "`{toolchain}` ({release}) has no library source ({})",
            library.display()
        ));
    };
    // Distributions put the version into the folder's name; a compiler and a library of different versions
    // do not mix.
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
            "`{toolchain}` is {release}, its library source {source}"
        )),
        None => Ok(format!(
            "`{toolchain}`, {release}, LLVM {llvm}, with library source"
        )),
    }
}

/// Gives a folder the name that the build script looks for. Builds that run meanwhile see the old one or the
/// new one: the name changes in one step.
fn name_it(folder: &Path) -> anyhow::Result<()> {
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
