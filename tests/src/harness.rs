//! The harness of the integration test binaries.
//!
//! A test that needs something this machine lacks (root, a program, a kernel feature) is reported as *ignored*, with
//! the reason. In continuous integration an unmet [`Requirement`] is a failure instead: nothing is ignored there. The
//! command line is that of Rust's own harness (`NAME`, `--exact`, `--skip`, `--test-threads`, `--list`).
//!
//! A test binary sets `harness = false` in the manifest, and its `main` lists the tests:
//!
//! ```no_run
//! use lb_tests::{harness::{Harness, Requirement}, tests};
//!
//! fn a_namespace_can_be_made() {
//!     lb_tests::Namespace::new("host").unwrap();
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Harness::new(&[Requirement::Root])
//!         .tests(tests![a_namespace_can_be_made])
//!         .run()
//! }
//! ```
//!
//! The compiler reports a test function that no list names as dead code.

use std::{
    collections::HashMap,
    env,
    path::Path,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::{
    statfs::{BPF_FS_MAGIC, statfs},
    utsname::uname,
};

use crate::{Cgroup, Limits};

/// Variables that turn an unmet requirement into a failure. CI services set the first, `cargo xtask test` the second.
const STRICT: [&str; 2] = ["CI", "LB_TESTS_STRICT"];

/// Where the BPF file system is mounted.
const BPF_FS: &str = "/sys/fs/bpf";

/// What a testbed with web servers needs.
pub const WEB_NETWORK: &[Requirement] = &[
    Requirement::Root,
    Requirement::BpfFs,
    Requirement::Program("ip"),
    Requirement::Program("ethtool"),
    Requirement::Program("nginx"),
];

/// Something that a machine must have so that a test can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// Effective user id 0.
    Root,
    /// The BPF file system, mounted on `/sys/fs/bpf`.
    BpfFs,
    /// A kernel of at least this major and minor version.
    Kernel(u32, u32),
    /// A program of this name in a folder of `PATH`, or at this path.
    Program(&'static str),
    /// A control group with a CPU quota can be created.
    CgroupCpu,
    /// The image of virtual machines is built.
    Guest,
}

impl Requirement {
    /// Checks the requirement.
    ///
    /// # Errors
    /// Returns what is missing, in words for the person who runs the test.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Root if nix::unistd::geteuid().is_root() => Ok(()),
            Self::Root => Err("needs root".to_owned()),
            Self::BpfFs => match statfs(BPF_FS) {
                Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
                _ => Err(format!("needs the BPF file system on {BPF_FS}")),
            },
            Self::Kernel(major, minor) => {
                let release = uname()
                    .map(|name| name.release().to_string_lossy().into_owned())
                    .unwrap_or_default();
                match version(&release) {
                    Some(running) if running >= (major, minor) => Ok(()),
                    _ => Err(format!(
                        "needs Linux {major}.{minor} or newer; this is {release}"
                    )),
                }
            }
            Self::Program(name) => {
                let path = env::var_os("PATH").unwrap_or_default();
                if env::split_paths(&path).any(|folder| folder.join(name).is_file()) {
                    return Ok(());
                }
                Err(format!("needs the program {name}"))
            }
            Self::Guest => {
                let image = crate::guest("initrd");
                if image.is_file() {
                    return Ok(());
                }
                Err(format!(
                    "needs {}, which `cargo xtask image` builds",
                    image.display()
                ))
            }
            Self::CgroupCpu => {
                let limits = Limits {
                    cores: Some(0.1),
                    memory: None,
                };
                Cgroup::new(limits)
                    .map(drop)
                    .map_err(|error| format!("needs control groups with a CPU quota: {error:#}"))
            }
        }
    }
}

/// Reads the major and minor version of a kernel release such as `6.18.5-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a test function returns.
pub trait Outcome {
    /// Converts the value to a result of the harness.
    ///
    /// # Errors
    /// Fails if the test has failed.
    fn into_result(self) -> Result<(), Failed>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Failed> {
        Ok(())
    }
}

impl Outcome for anyhow::Result<()> {
    fn into_result(self) -> Result<(), Failed> {
        self.map_err(|error| format!("{error:?}").into())
    }
}

/// A test: its name and what it runs. [`tests!`](crate::tests) makes these.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The path of the function within the test binary.
    pub name: &'static str,
    /// The function.
    pub run: fn() -> Result<(), Failed>,
}

/// Makes a list of [`Test`](crate::harness::Test)s of paths to functions that return `()` or `anyhow::Result<()>`.
#[macro_export]
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        vec![$($crate::harness::Test {
            name: stringify!($test),
            run: || $crate::harness::Outcome::into_result($test()),
        }),*]
    };
}

/// The tests of a binary.
#[derive(Debug)]
pub struct Harness {
    requirements: &'static [Requirement],
    tests: Vec<(&'static [Requirement], Test)>,
}

impl Harness {
    /// Creates a harness whose tests all need these.
    #[must_use]
    pub fn new(requirements: &'static [Requirement]) -> Self {
        Self {
            requirements,
            tests: Vec::new(),
        }
    }

    /// Adds tests that need nothing more.
    #[must_use]
    pub fn tests(self, tests: Vec<Test>) -> Self {
        self.tests_with(&[], tests)
    }

    /// Adds tests that need these besides.
    #[must_use]
    pub fn tests_with(mut self, requirements: &'static [Requirement], tests: Vec<Test>) -> Self {
        self.tests
            .extend(tests.into_iter().map(|test| (requirements, test)));
        self
    }

    /// Runs the tests that the command line selects and prints the result.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let strict = STRICT
            .iter()
            .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
        let trials = self
            .tests
            .into_iter()
            .map(|(own, test)| {
                let common = self.requirements;
                Trial::ignorable_test(test.name, move || {
                    run(common.iter().chain(own), strict, test).map(|ignored| match ignored {
                        Some(reason) => Completion::ignored_with(reason),
                        None => Completion::Completed,
                    })
                })
            })
            .collect();
        libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
    }
}

/// Runs one test. Returns the reason if a requirement is not met and the test is to be ignored.
fn run<'a>(
    requirements: impl Iterator<Item = &'a Requirement>,
    strict: bool,
    test: Test,
) -> Result<Option<String>, Failed> {
    let missing: Vec<String> = requirements.filter_map(|one| checked(*one).err()).collect();
    if missing.is_empty() {
        return (test.run)().map(|()| None);
    }
    let reason = missing.join("; ");
    if strict {
        return Err(format!(
            "nothing may be ignored here, but this test {reason}; `cargo xtask setup` installs programs"
        )
        .into());
    }
    Ok(Some(reason))
}

/// Checks a requirement once per process: some checks change the machine for a moment.
fn checked(requirement: Requirement) -> Result<(), String> {
    static RESULTS: Mutex<Option<HashMap<Requirement, Result<(), String>>>> = Mutex::new(None);
    RESULTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .entry(requirement)
        .or_insert_with(|| requirement.check())
        .clone()
}

/// Returns the names of the test binaries in `manifest` that use this harness.
fn binaries(manifest: &str) -> Vec<&str> {
    manifest
        .split("[[test]]")
        .skip(1)
        .filter(|entry| entry.contains("harness = false"))
        .filter_map(|entry| entry.split('"').nth(1))
        .collect()
}

/// Returns the source files of this crate's test binaries that still have a `#[test]` function, which would never
/// run: without Rust's own harness the compiler drops these functions silently.
///
/// # Errors
/// Fails if the sources cannot be read.
pub fn files_with_unused_tests(package: &Path) -> anyhow::Result<Vec<String>> {
    let manifest = std::fs::read_to_string(package.join("Cargo.toml"))?;
    let mut found = Vec::new();
    for name in binaries(&manifest) {
        let tests = package.join("tests");
        let mut left = vec![tests.join(name), tests.join(format!("{name}.rs"))];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            } else if path.is_file() {
                let text = std::fs::read_to_string(&path)?;
                if text.lines().any(|line| line.trim() == "#[test]") {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        for (release, expected) in [
            ("6.18.5-amd64", Some((6, 18))),
            ("6.6.0", Some((6, 6))),
            ("7.0-rc1", Some((7, 0))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert_eq!(Requirement::Kernel(2, 6).check(), Ok(()));
        let error = Requirement::Kernel(1000, 0).check().unwrap_err();
        assert!(error.contains("needs Linux 1000.0 or newer"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        assert_eq!(Requirement::Program("sh").check(), Ok(()));
        let error = Requirement::Program("no-such-program").check().unwrap_err();
        assert!(error.contains("no-such-program"), "{error}");
    }

    fn fails() -> anyhow::Result<()> {
        anyhow::bail!("no")
    }

    fn passes() {}

    #[test]
    fn an_unmet_requirement_ignores_a_test_or_fails_it_in_ci() {
        let [bad, good] = crate::tests![fails, passes][..] else {
            panic!("two tests")
        };
        assert_eq!((bad.name, good.name), ("fails", "passes"));
        let missing = [Requirement::Program("no-such-program")];
        let outcome = |requirements: &[Requirement], strict, test| {
            run(requirements.iter(), strict, test).map_err(|error| format!("{:?}", error.message()))
        };
        assert_eq!(outcome(&[], true, good), Ok(None));
        assert!(outcome(&[], false, bad).is_err());
        let reason = outcome(&missing, false, bad).unwrap().unwrap();
        assert!(reason.contains("no-such-program"), "{reason}");
        let failed = outcome(&missing, true, good).unwrap_err();
        assert!(failed.contains("nothing may be ignored"), "{failed}");
    }

    /// Returns the folders of all packages of the workspace.
    fn packages() -> Vec<PathBuf> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        [workspace.to_owned(), workspace.join("crates")]
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("Cargo.toml").is_file())
            .collect()
    }

    #[test]
    fn every_test_of_a_binary_with_this_harness_is_in_its_list() {
        assert!(!binaries(include_str!("../Cargo.toml")).is_empty());
        for package in packages() {
            let unused = files_with_unused_tests(&package).unwrap();
            assert!(unused.is_empty(), "{unused:?}");
        }
    }

    #[test]
    fn a_test_that_passes_without_running_is_not_found() {
        // Rust's own harness has no way to ignore a test at run time, so such tests used to return early.
        let early = ["geteuid().is_root()", concat!("SKIP", "PED")];
        for package in packages() {
            for path in rust_files(&package.join("tests")) {
                let text = std::fs::read_to_string(&path).unwrap();
                for words in early {
                    assert!(!text.contains(words), "{}: {words}", path.display());
                }
            }
        }
    }

    fn rust_files(folder: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        entries
            .flat_map(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    rust_files(&path)
                } else {
                    vec![path]
                }
            })
            .collect()
    }
}
