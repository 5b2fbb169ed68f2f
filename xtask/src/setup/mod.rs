//! `cargo xtask setup`: what this machine needs, checked, and installed where it is missing.

mod bpffs;
mod compiler;
mod kernel;
mod linker;
mod packages;
mod root;
mod rust;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use compiler::Compiler;

/// Arguments of `cargo xtask setup`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only report; exit with 1 if something is missing.
    #[arg(long)]
    check: bool,

    /// Where the compiler for the kernel half comes from. `auto` takes what is there, else rustup, else the
    /// distribution; the others make it anew from that source.
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    ebpf_compiler: Source,
}

/// Where the compiler for the kernel half comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// What is there, else rustup, else the distribution.
    #[default]
    Auto,
    /// A nightly with its library source, from rustup.
    Rustup,
    /// The distribution's compiler and library source.
    Distribution,
}

/// Something this machine needs.
trait Prerequisite {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it is for.
    fn why(&self) -> &'static str;

    /// What there is (`Ok`), or what is missing (`Err`).
    fn check(&self) -> Result<String, String>;

    /// Installs it.
    fn provide(&self) -> anyhow::Result<()>;
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // In the order in which they build upon each other.
    let prerequisites: [&dyn Prerequisite; 8] = [
        &root::Root,
        &rust::Rust,
        &packages::LABORATORY,
        &packages::BUILDING,
        &kernel::Kernel,
        &bpffs::BpfFileSystem,
        &linker::Linker,
        &Compiler::new(arguments.ebpf_compiler),
    ];
    let mut missing = 0;
    for prerequisite in prerequisites {
        let name = prerequisite.name();
        match prerequisite.check() {
            Ok(found) => println!("ok       {name}: {found}"),
            Err(lack) if arguments.check => {
                missing += 1;
                println!("MISSING  {name}: {lack}");
                println!("         {}", prerequisite.why());
            }
            Err(lack) => {
                println!("install  {name}: {lack}");
                println!("         {}", prerequisite.why());
                prerequisite
                    .provide()
                    .with_context(|| format!("installing {name}"))?;
                let found = prerequisite
                    .check()
                    .map_err(|lack| anyhow::anyhow!("{name} after installing it: {lack}"))?;
                println!("ok       {name}: {found}");
            }
        }
    }
    if missing > 0 {
        bail!(
            "{missing} of {} are missing; `cargo xtask setup` installs them",
            prerequisites.len()
        );
    }
    Ok(())
}

/// Set-up as the first step of another verb.
pub fn ensure() -> anyhow::Result<()> {
    run(&Arguments {
        check: false,
        ebpf_compiler: Source::Auto,
    })
}
