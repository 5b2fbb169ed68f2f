//! Runs end-to-end tests in a virtual machine with another kernel: whether an old verifier takes the programs, and whether
//! packets pass, can be found out in no other way.
//!
//! The machine has no disk and no network. Its file system in memory holds the tests, the programs, what these need of this
//! machine, and the kernel's modules. Everything is emulated (`tcg`), since a runner of continuous integration often has no
//! KVM; a packet takes ten times as long, so the tests may wait ten times as long (`LB_TESTS_SLOWNESS`).

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

use crate::{
    command,
    initramfs::{self, Root},
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
    let (version, image) = initramfs::find(&kernel)?;
    let end_to_end = suites::executable("lb-tests", "end_to_end")?;
    let folder = tempfile::tempdir().context("making a folder for the machine")?;
    let root = Root(folder.path().join("root"));
    fill(&root, &kernel, &version, programs, &end_to_end)?;
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

/// Fills the machine's file system.
fn fill(
    root: &Root,
    kernel: &Path,
    version: &str,
    programs: &Path,
    end_to_end: &Path,
) -> anyhow::Result<()> {
    root.make(&[
        "bin", "dev", "etc", "proc", "sys", "tmp", "run", "modules", "programs", "var/log",
        "var/lib", "var/tmp",
    ])?;
    root.add_modules(kernel, version, &MODULES, "order")?;
    for name in PROGRAMS {
        let path = format!("command -v {name}");
        let path = command::ask("sh", &["-c", &path])
            .with_context(|| format!("the tests need the program {name}"))?;
        root.add_program(Path::new(path.trim()), name)?;
    }
    for name in ["lb-agent", "lbctl"] {
        root.add_program(&programs.join(name), name)?;
    }
    root.add_program(end_to_end, "end_to_end")?;
    root.add_busybox()?;
    for name in ["passwd", "group"] {
        fs::copy(Path::new("/etc").join(name), root.0.join("etc").join(name))?;
    }
    fs::write(root.0.join("tests"), TESTS.join("\n"))?;
    root.add_script("init", INIT)
}
