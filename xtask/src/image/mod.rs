//! `cargo xtask image`: the image of virtual machines.
//!
//! A kernel of the distribution for machines in a cloud, and a file system in memory: busybox, the kernel's virtio modules,
//! QEMU's guest agent, and the programs `lb-proxy` and `lb-agent` with the libraries that they load. The machine takes what it
//! is told from its firmware, or from the agent when it goes on from a saved state (`docs/pools.md`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    command,
    initramfs::{self, Root},
    programs::{self, Profile},
    setup,
};

/// Environment variable with the folder of the built image, for tests.
pub const FOLDER: &str = "LB_GUEST_DIR";

/// The package that depends on the newest kernel for machines in a cloud, and the one with QEMU's guest agent.
const KERNEL: &str = "linux-image-cloud-amd64";
const AGENT: &str = "qemu-guest-agent";

/// Modules that every machine loads when it starts: network, agent, power button, what the firmware hands over, and disks.
const MODULES: [&str; 7] = [
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "qemu_fw_cfg",
    "button",
    "evdev",
    "virtio_blk",
];
/// Those that `lb-agent` needs, which are loaded where it runs.
const AGENT_MODULES: [&str; 4] = ["sch_ingress", "cls_bpf", "act_bpf", "veth"];

/// Arguments of `cargo xtask image`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Folder for the image. Default: `guest` in cargo's target folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// A folder into which packages of a kernel were unpacked (`dpkg -x`). Default: Debian's kernel for machines in a cloud,
    /// which apt downloads.
    #[arg(long, value_name = "FOLDER")]
    kernel: Option<PathBuf>,

    /// A folder with `lb-proxy`, `lb-agent` and `lbctl`. Default: they are built for use.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure_virtual_machine()?;
    let folder = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => programs::build(Profile::Release, &["lb-proxy", "lb-agent", "lb-ctl"])?,
    };
    let out = arguments.out.clone().unwrap_or_else(self::folder);
    let image = build(&folder, &out, arguments.kernel.as_deref())?;
    println!(
        "template.vm.kernel = \"{}\"",
        image.join("vmlinuz").display()
    );
    println!(
        "template.vm.initrd = \"{}\"",
        image.join("initrd").display()
    );
    Ok(())
}

/// Where the image is unless it is asked for elsewhere.
pub fn folder() -> PathBuf {
    command::workspace().join("target/guest")
}

/// Builds the image with programs from this folder. `initrd` has both programs, `initrd-proxy` the proxy only, and
/// `initrd-bare` none.
pub fn build(programs: &Path, out: &Path, kernel: Option<&Path>) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let out = out.canonicalize()?;
    let kernel = match kernel {
        Some(folder) => folder.to_owned(),
        None => download(&out.join("kernel"), &newest_kernel()?)?,
    };
    let agent = download(&out.join("agent"), AGENT)?;
    let (version, image) = initramfs::find(&kernel)?;
    fs::copy(image, out.join("vmlinuz"))?;
    let folder = tempfile::tempdir().context("making a folder for the image")?;
    let root = Root(folder.path().to_owned());
    root.make(&[
        "bin",
        "dev",
        "etc/acpi/PWRF",
        "lb",
        "modules",
        "proc",
        "programs",
        "sys",
        "usr",
    ])?;
    root.add_busybox()?;
    root.add_modules(&kernel, &version, &AGENT_MODULES, "agent")?;
    root.add_modules(&kernel, &version, &MODULES, "order")?;
    root.add_program(&agent.join("usr/sbin/qemu-ga"), "qemu-ga")?;
    root.add_script("init", include_str!("init"))?;
    root.add_script("lb/functions", include_str!("functions"))?;
    root.add_script("lb/wake", include_str!("wake"))?;
    root.add_script("etc/acpi/PWRF/00000080", include_str!("power"))?;
    // Each is put in its place whole: a machine may start from it meanwhile.
    let pack = |name: &str| -> anyhow::Result<()> {
        let new = out.join(format!("{name}.new"));
        root.pack(&new)?;
        Ok(fs::rename(new, out.join(name))?)
    };
    pack("initrd-bare")?;
    root.add_program(&programs.join("lb-proxy"), "lb-proxy")?;
    root.add_script("lb/follow", include_str!("follow"))?;
    pack("initrd-proxy")?;
    root.add_program(&programs.join("lb-agent"), "lb-agent")?;
    root.add_program(&programs.join("lbctl"), "lbctl")?;
    pack("initrd")?;
    Ok(out)
}

/// The package with the newest kernel.
fn newest_kernel() -> anyhow::Result<String> {
    let depends = command::ask("apt-cache", &["depends", KERNEL]).unwrap_or_default();
    let kernel = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let Some(kernel) = kernel else {
        bail!(
            "apt knows no package {KERNEL}; run `apt-get update`, or give --kernel a folder into which the packages of a \
             kernel with virtio modules were unpacked"
        );
    };
    Ok(format!("linux-image-{}", kernel.trim()))
}

/// A folder with what is in a package, which is downloaded and not installed.
fn download(folder: &Path, package: &str) -> anyhow::Result<PathBuf> {
    let unpacked = folder.join(package);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    // What is left of earlier kernels, or of a download that was interrupted.
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    // The sandbox's user may not write to the project's folder.
    let sandbox = ["-o", "APT::Sandbox::User=root"];
    command::run(
        Command::new("apt-get")
            .args(sandbox)
            .args(["--quiet", "download", package])
            .current_dir(folder),
    )?;
    let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let file = files
        .into_iter()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get has downloaded nothing for {package}"))?;
    let new = folder.join("new");
    command::run(Command::new("dpkg").arg("-x").arg(&file).arg(&new))?;
    fs::rename(new, &unpacked)?;
    Ok(unpacked)
}
