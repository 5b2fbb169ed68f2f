//! Runs end-to-end tests in a virtual machine with another kernel: whether an old verifier takes the programs, and whether
//! packets pass, can be found out in no other way.
//!
//! The machine has no disk and no network. Its file system in memory holds the tests, the programs, what these need of this
//! machine, and the kernel's modules. Everything is emulated (`tcg`), since a runner of continuous integration often has no
//! KVM; a packet takes ten times as long, so the tests may wait ten times as long (`LB_TESTS_SLOWNESS`).

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    command,
    suites::{self, Counts},
};

/// Tests that show that each program loads and that packets pass by each way of forwarding.
const TESTS: [&str; 11] = [
    "attach::native_mode_does_not_fall_back",
    "attach::auto_falls_back_and_says_so",
    "beside::a_vip_answers_a_ping",
    "counters::reasons_add_up_to_the_frames_received",
    "forwarding::v4_in_v4",
    "forwarding::v6_in_v6",
    "forwarding::v4_in_v6",
    "forwarding::v4_by_mac",
    "forwarding::generic_mode",
    "forwarding::udp_flows_stay_on_one_real",
    "kernel_log::each_level_logs_more",
];

/// Programs that the tests start.
const PROGRAMS: [&str; 6] = ["ip", "ethtool", "nginx", "mosquitto", "ping", "ss"];

/// Modules that testbeds need, where they are not built in.
const MODULES: [&str; 7] = [
    "veth",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "ipv6",
    "macvlan",
];

/// How long the tests may take, in seconds.
const LIMIT: &str = "1200";

/// The first process of the machine.
const INIT: &str = r#"#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
$b mount -t tmpfs tmpfs /tmp
for module in $($b cat /modules/order); do $b insmod "/modules/$module"; done
$b uname -r
export PATH=/programs HOME=/tmp LB_BIN_DIR=/programs LB_TESTS_STRICT=1 LB_TESTS_SLOWNESS=10
cd /tmp
for test in $($b cat /tests); do /programs/end_to_end --exact "$test" --test-threads 1 --color never; done
$b poweroff -f
"#;

/// Runs the tests with a kernel whose packages were unpacked (`dpkg -x`) into this folder.
pub fn run(kernel: &Path, programs: &Path) -> anyhow::Result<Counts> {
    let kernel = kernel
        .canonicalize()
        .with_context(|| format!("looking for the kernel in {}", kernel.display()))?;
    let (version, image) = find(&kernel)?;
    let end_to_end = suites::executable("lb-tests", "end_to_end")?;
    let folder = tempfile::tempdir().context("making a folder for the machine")?;
    let root = Root(folder.path().join("root"));
    root.fill(&kernel, &version, programs, &end_to_end)?;
    let archive = folder.path().join("initrd");
    root.pack(&archive)?;
    let mut machine = Command::new("timeout");
    machine
        .args([LIMIT, "qemu-system-x86_64"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "Haswell-noTSX"])
        .args(["-m", "1536", "-smp", "2", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-serial", "stdio", "-append"])
        // A kernel that panics ends the machine, and a test without a result is a failure.
        .arg("console=ttyS0 quiet panic=-1 oops=panic")
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(&archive);
    let mut counts = suites::run_one(&format!("Linux {version}"), machine);
    let results = counts.passed + counts.failed + counts.skipped;
    if results < TESTS.len() as u64 {
        println!(
            "Linux {version}: {results} of {} tests have a result",
            TESTS.len()
        );
        counts += Counts::FAILURE;
    }
    Ok(counts)
}

/// The version of a kernel and its image.
fn find(kernel: &Path) -> anyhow::Result<(String, PathBuf)> {
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
struct Root(PathBuf);

impl Root {
    fn fill(
        &self,
        kernel: &Path,
        version: &str,
        programs: &Path,
        end_to_end: &Path,
    ) -> anyhow::Result<()> {
        for folder in [
            "bin", "dev", "etc", "proc", "sys", "tmp", "run", "modules", "programs",
        ] {
            fs::create_dir_all(self.0.join(folder))?;
        }
        for folder in ["log", "lib", "tmp"] {
            fs::create_dir_all(self.0.join("var").join(folder))?;
        }
        self.add_modules(kernel, version)?;
        for name in PROGRAMS {
            let path = format!("command -v {name}");
            let path = command::ask("sh", &["-c", &path])
                .with_context(|| format!("the tests need the program {name}"))?;
            self.add_program(Path::new(path.trim()), name)?;
        }
        for name in ["lb-agent", "lbctl"] {
            self.add_program(&programs.join(name), name)?;
        }
        self.add_program(end_to_end, "end_to_end")?;
        let busybox = command::ask("sh", &["-c", "command -v busybox"]).context("no busybox")?;
        fs::copy(busybox.trim(), self.0.join("bin/busybox"))?;
        symlink("busybox", self.0.join("bin/sh"))?;
        for name in ["passwd", "group"] {
            fs::copy(Path::new("/etc").join(name), self.0.join("etc").join(name))?;
        }
        fs::write(self.0.join("tests"), TESTS.join("\n"))?;
        let init = self.0.join("init");
        fs::write(&init, INIT)?;
        fs::set_permissions(init, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Copies the modules, and writes the order in which they are loaded.
    fn add_modules(&self, kernel: &Path, version: &str) -> anyhow::Result<()> {
        // The tools look in lib/modules; newer packages are laid out for a merged /usr.
        let lib = kernel.join("lib");
        if !lib.exists() {
            symlink("usr/lib", lib)?;
        }
        command::run(Command::new("depmod").arg("-b").arg(kernel).arg(version))?;
        let mut order: Vec<String> = Vec::new();
        for module in MODULES {
            let output = Command::new("modprobe")
                .arg("-d")
                .arg(kernel)
                .args(["-S", version, "--show-depends", module])
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
        fs::write(self.0.join("modules/order"), order.join("\n"))?;
        Ok(())
    }

    /// Copies a program without its debug information, and the libraries that it loads.
    fn add_program(&self, path: &Path, name: &str) -> anyhow::Result<()> {
        let target = self.0.join("programs").join(name);
        let mut strip = Command::new("strip");
        strip.args(["--strip-debug", "-o"]).arg(&target).arg(path);
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
    fn pack(&self, archive: &Path) -> anyhow::Result<()> {
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
