//! `cargo xtask test`: the checks and tests.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crate::{
    command::{self, cargo},
    image, kernels,
    programs::{self, Profile},
    setup,
    suites::{self, Counts},
};

/// Arguments of `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only tests whose name contains this, without formatting and lints.
    filter: Option<String>,

    /// The long form: also documentation, ten times the random frames, 200 kills of the controller, 100,000 requests over
    /// restarts of the proxy, and a minute of each demonstration.
    #[arg(long, conflicts_with = "filter")]
    all: bool,

    /// Only injection of faults, for five minutes: parts, files, sockets, pins, interfaces, routes and neighbours of the agent,
    /// and controller, proxies, instances and their files, are taken away in random order under numbered traffic. Without
    /// this each fault happens once among the other tests.
    #[arg(long, conflicts_with_all = ["filter", "all"])]
    faults: bool,

    /// Only whether the kernel programs load and forward with another kernel, in a virtual machine: a folder into which the
    /// kernel's packages were unpacked (`dpkg -x`). Give it again for more.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["filter", "all", "faults"])]
    kernel: Vec<PathBuf>,
}

/// Set for the tests: one that cannot run on this machine fails instead of being ignored. Set-up has installed
/// everything that they need.
const STRICT: (&str, &str) = ("LB_TESTS_STRICT", "1");

/// Random frames of the differential test in the long form; its default is a tenth of it.
const MANY_FRAMES: (&str, &str) = ("LB_DIFFERENTIAL_FRAMES", "200000");

/// How often the controller is killed in the long form; its default is 15.
const MANY_KILLS: (&str, &str) = ("LB_CONTROLLER_KILLS", "200");

/// Random histories of hosts of each kind in the long form; its default is 500.
const MANY_HISTORIES: (&str, &str) = ("LB_HOST_HISTORIES", "10000");

/// Requests that must all be answered while the proxy is restarted, in the long form; its default is 800.
const MANY_REQUESTS: (&str, &str) = ("LB_PROXY_RESTART_REQUESTS", "100000");

/// How many seconds faults are injected in the long form; otherwise each happens once.
const MANY_FAULTS: (&str, &str) = ("LB_FAULTS_SECONDS", "300");

/// How long each demonstration runs in the long form: every fault happens once.
const DEMONSTRATION: Duration = Duration::from_secs(60);

/// Runs the verb. The last line of its output sums up everything.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut counts = Counts::default();
    if let Err(error) = run_all(arguments, &mut counts) {
        eprintln!("cargo xtask: {error:#}");
        counts += Counts::FAILURE;
    }
    println!("\n{counts}");
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Adds to `counts` what was run. Fails if something that is no test fails, and then does not go on.
fn run_all(arguments: &Arguments, counts: &mut Counts) -> anyhow::Result<()> {
    setup::ensure()?;
    if arguments.faults {
        let folder = programs::build(Profile::Debug, &programs::PRODUCT)?;
        *counts += suites::run_suite(&folder, "lb-tests", "faults", &[STRICT, MANY_FAULTS]);
        return Ok(());
    }
    if !arguments.kernel.is_empty() {
        let folder = programs::build(Profile::Debug, &programs::PRODUCT)?;
        for kernel in &arguments.kernel {
            *counts += kernels::run(kernel, &folder)?;
        }
        return Ok(());
    }
    if arguments.filter.is_none() {
        command::run(cargo().args(["fmt", "--all", "--check"]))?;
        command::run(cargo().args(["clippy", "--all-targets", "--", "--deny", "warnings"]))?;
    }
    if arguments.all {
        command::run(
            cargo()
                .env("RUSTDOCFLAGS", "--deny warnings")
                .args(["doc", "--no-deps"]),
        )?;
    }
    // Tests use these programs instead of building them.
    let folder = programs::build(Profile::Debug, &programs::DEMONSTRATION)?;
    let guest = image::build(&folder, &image::folder(), None)?;
    let guest = guest.display().to_string();
    let mut variables = vec![STRICT, (image::FOLDER, guest.as_str())];
    if arguments.all {
        variables.extend([MANY_FRAMES, MANY_KILLS, MANY_HISTORIES, MANY_REQUESTS]);
    }
    *counts += suites::run(&folder, arguments.filter.as_deref(), &variables)?;
    if arguments.all {
        for demo in ["mqtt", "web"] {
            let mut demonstration = std::process::Command::new(folder.join("lb-demo"));
            demonstration
                .env(programs::FOLDER, &folder)
                .args(["--demo", demo])
                .args(["--for", &format!("{}s", DEMONSTRATION.as_secs())]);
            command::run(&mut demonstration)?;
        }
    }
    Ok(())
}
