//! bpf-linker, which links the kernel programs.

use std::process::Command;

use super::{
    Prerequisite,
    packages::{self, LLVM},
};
use crate::command;

/// The tested version.
const VERSION: &str = "0.13.0";

/// Major version of the LLVM that bpf-linker is built with, and Debian's prefix for it.
pub(super) const LLVM_MAJOR: u32 = 22;
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

pub(super) struct Linker;

impl Prerequisite for Linker {
    fn name(&self) -> &'static str {
        "bpf-linker"
    }

    fn why(&self) -> &'static str {
        "it links the kernel programs; its LLVM must not be older than the compiler's"
    }

    fn check(&self) -> Result<String, String> {
        let version = command::ask("bpf-linker", &["--version"])
            .ok_or("PATH has none that runs (cargo installs it into ~/.cargo/bin)")?;
        if version.split_whitespace().nth(1) != Some(VERSION) {
            return Err(format!("{version} instead of {VERSION}"));
        }
        match linked_llvm() {
            Some(major) if major < LLVM_MAJOR => Err(format!(
                "{version} with LLVM {major} instead of {LLVM_MAJOR}"
            )),
            Some(major) => Ok(format!("{version}, LLVM {major}")),
            None => Ok(format!("{version}, LLVM built in")),
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        if let Err(missing) = LLVM.check() {
            println!("         first {}: {missing}", LLVM.name());
            println!("         {}", LLVM.why());
            LLVM.provide()?;
        }
        let feature = format!("llvm-{LLVM_MAJOR}");
        // bpf-linker's build script reads LLVM_PREFIX; without it, the script may find another LLVM.
        command::run(
            Command::new("cargo")
                .env("LLVM_PREFIX", LLVM_PREFIX)
                .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX)
                .args(["install", "bpf-linker", "--version", VERSION, "--force"])
                .args(["--no-default-features", "--features", &feature]),
        )
    }
}

/// Returns the major version of the shared LLVM that bpf-linker is linked with; `None` if LLVM is built in.
fn linked_llvm() -> Option<u32> {
    let path = command::ask("sh", &["-c", "command -v bpf-linker"])?;
    let libraries = command::ask("ldd", &[&path])?;
    let at = libraries.find("libLLVM")?;
    let digits: String = libraries[at..]
        .chars()
        .skip_while(|character| !character.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// Installs the shared LLVM, which the distribution's compiler needs as well.
pub(super) fn install_llvm_library() -> anyhow::Result<()> {
    if command::ask("ldconfig", &["-p"]).is_some_and(|cache| cache.contains("libLLVM.so.22")) {
        return Ok(());
    }
    packages::install(&["libllvm22"])
}
