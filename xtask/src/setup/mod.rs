//! `cargo xtask setup`: checks what this machine needs and installs what is missing.

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
    /// Only report; exit with status 1 if something is missing.
    #[arg(long)]
    check: bool,

    /// Source of the compiler for the kernel programs. `auto` uses an installed one, else rustup, else the
    /// distribution; the others install it again from that source.
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    ebpf_compiler: Source,
}

/// Source of the compiler for the kernel programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// An installed one, else rustup, else the distribution.
    #[default]
    Auto,
    /// A nightly toolchain with its library source, from rustup.
    Rustup,
    /// The distribution's compiler and library source.
    Distribution,
}

/// Something that this machine needs.
trait Prerequisite {
    /// Returns its name.
    fn name(&self) -> &'static str;

    /// Returns what it is needed for.
    fn why(&self) -> &'static str;

    /// Returns what is installed (`Ok`), or what is missing (`Err`).
    fn check(&self) -> Result<String, String>;

    /// Installs it.
    fn provide(&self) -> anyhow::Result<()>;
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Each may need the ones before it.
    let prerequisites: [&dyn Prerequisite; 9] = [
        &root::Root,
        &rust::Rust,
        &packages::TESTBED,
        &packages::VIRTUAL_MACHINE,
        &packages::BUILDING,
        &kernel::Kernel,
        &bpffs::BpfFileSystem,
        &linker::Linker,
        &Compiler::new(arguments.ebpf_compiler),
    ];
    provide(&prerequisites, arguments.check)
}

/// Checks prerequisites, and installs those that are missing unless they are only to be checked.
fn provide(prerequisites: &[&dyn Prerequisite], only_check: bool) -> anyhow::Result<()> {
    let mut missing = 0;
    for prerequisite in prerequisites {
        let name = prerequisite.name();
        match prerequisite.check() {
            Ok(installed) => println!("ok       {name}: {installed}"),
            Err(lack) if only_check => {
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
                let installed = prerequisite
                    .check()
                    .map_err(|lack| anyhow::anyhow!("{name} after installing it: {lack}"))?;
                println!("ok       {name}: {installed}");
            }
        }
    }
    if missing > 0 {
        bail!(
            "{missing} of {} prerequisites are missing; `cargo xtask setup` installs them",
            prerequisites.len()
        );
    }
    Ok(())
}

/// Runs the set-up as the first step of another verb.
pub fn ensure() -> anyhow::Result<()> {
    run(&Arguments {
        check: false,
        ebpf_compiler: Source::Auto,
    })
}

/// What `cargo xtask image` needs.
pub fn ensure_virtual_machine() -> anyhow::Result<()> {
    provide(&[&packages::VIRTUAL_MACHINE], false)
}

/// The kernel's own packet filter, which `cargo xtask bench nat` compares with.
pub fn ensure_packet_filter() -> anyhow::Result<()> {
    provide(&[&packages::PACKET_FILTER], false)
}

/// The other proxies that `cargo xtask bench http` compares with.
pub fn ensure_proxies() -> anyhow::Result<()> {
    provide(&[&packages::PROXIES], false)
}
