//! Builds the test binaries of the workspace, runs them, and adds up their results.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    ops::AddAssign,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::command::{self, cargo};

/// Integration tests that run at the same time. They mostly wait for processes, networks and timeouts.
const INTEGRATION_THREADS: &str = "2";

/// Unit tests that run at the same time, beside the integration tests. They compute, and must leave processor time to
/// the integration tests on a machine of two cores.
const UNIT_THREADS: &str = "1";

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed; a binary that crashes and a check that fails count as one.
    pub failed: u64,
    /// Tests that were ignored.
    pub skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// One check that failed.
    pub const FAILURE: Counts = Counts {
        passed: 0,
        failed: 1,
        skipped: 0,
    };

    /// Reads the line with which a test binary ends: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn parse(line: &str) -> Option<Self> {
        let (_, results) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for result in results.split("; ") {
            let (number, what) = result.split_once(' ')?;
            match what {
                "passed" => counts.passed = number.parse().ok()?,
                "failed" => counts.failed = number.parse().ok()?,
                "ignored" => counts.skipped = number.parse().ok()?,
                _ => {}
            }
        }
        Some(counts)
    }
}

/// The closing line of `cargo xtask test`.
impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(formatter, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// What a test binary says of the tests that failed: whoever has only the end of the output finds there what went wrong.
#[derive(Debug, Default)]
struct Failures {
    lines: Vec<String>,
    /// How often the heading of the list was seen: reasons follow it first, names of tests then.
    headings: u32,
}

impl Failures {
    /// Lines that are kept of a test binary.
    const MOST: usize = 80;

    fn hear(&mut self, line: &str) {
        if line.trim() == "failures:" {
            self.headings += 1;
        } else if line.starts_with("test result:") {
            self.headings = 0;
        } else if self.headings == 1 && !line.trim().is_empty() && self.lines.len() < Self::MOST {
            self.lines.push(line.to_owned());
        }
    }
}

/// How a test binary ended.
struct Ran {
    counts: Counts,
    failures: Failures,
}

/// A test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suite {
    /// For people: package and target.
    name: String,
    executable: PathBuf,
    /// The package's folder, where cargo runs test binaries.
    folder: PathBuf,
    /// Tests across processes and networks, which mostly wait; not unit tests, which mostly compute.
    integration: bool,
}

/// Part of cargo's message about a target that it has built.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    manifest_path: PathBuf,
    profile: ArtifactProfile,
    target: Target,
}

#[derive(Deserialize)]
struct ArtifactProfile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Suite {
    /// Reads a line of `cargo test --no-run --message-format json`; `None` if it is about something else.
    fn parse(line: &str) -> Option<Self> {
        let artifact: Artifact = serde_json::from_str(line).ok()?;
        let executable = artifact.executable.filter(|_| artifact.profile.test)?;
        let folder = artifact.manifest_path.parent()?.to_owned();
        let package = folder.file_name()?.to_string_lossy().into_owned();
        Some(Self {
            name: format!("{package} {}", artifact.target.name),
            executable,
            folder,
            integration: artifact.target.kind.iter().any(|kind| kind == "test"),
        })
    }
}

/// Builds all test binaries, or those that these arguments choose.
fn build(chosen: &[&str]) -> anyhow::Result<Vec<Suite>> {
    let mut build = cargo();
    build.args([
        "test",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    build.args(chosen);
    println!("    $ {}", command::shown(&build));
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo to build the tests")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let suites: Vec<Suite> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(Suite::parse)
        .collect();
    if suites.is_empty() {
        bail!("cargo has built no test binary");
    }
    Ok(suites)
}

/// Builds and runs all test binaries whose tests match `filter`, and the examples in documentation. `programs` is the
/// folder with `lb-agent` and `lbctl`; `variables` are set for the tests.
///
/// Integration tests mostly wait for processes and networks, unit tests compute: the two kinds run side by side.
pub fn run(
    programs: &Path,
    filter: Option<&str>,
    variables: &[(&str, &str)],
) -> anyhow::Result<Counts> {
    let (integration, unit): (Vec<_>, Vec<_>) =
        build(&[])?.into_iter().partition(|suite| suite.integration);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (suites, threads) in [(integration, INTEGRATION_THREADS), (unit, UNIT_THREADS)] {
            let results = &results;
            scope.spawn(move || {
                for suite in suites {
                    let begin = Instant::now();
                    let mut test = Command::new(&suite.executable);
                    test.current_dir(&suite.folder)
                        .env("CARGO_MANIFEST_DIR", &suite.folder)
                        .env(crate::programs::FOLDER, programs)
                        .envs(variables.iter().copied())
                        .args(filter)
                        .args(["--test-threads", threads]);
                    let ran = run_binary(&suite.name, test);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((suite.name, ran, begin.elapsed()));
                }
            });
        }
    });
    let mut examples = cargo();
    examples
        .args(["test", "--doc", "--no-fail-fast"])
        .args(filter);
    let begin = Instant::now();
    let ran = run_binary("examples", examples);
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.push(("examples".to_owned(), ran, begin.elapsed()));
    Ok(summarise(&results))
}

/// Builds one test binary of a package, and returns its path.
pub fn executable(package: &str, suite: &str) -> anyhow::Result<PathBuf> {
    let mut suites = build(&["--package", package, "--test", suite])?;
    let suite = suites.pop().context("cargo has built no test binary")?;
    Ok(suite.executable)
}

/// Builds and runs one test binary of a package, and shows what its tests print.
pub fn run_suite(
    programs: &Path,
    package: &str,
    suite: &str,
    variables: &[(&str, &str)],
) -> Counts {
    let mut test = cargo();
    test.args(["test", "--package", package, "--test", suite])
        .args(["--", "--nocapture"])
        .env(crate::programs::FOLDER, programs)
        .envs(variables.iter().copied());
    run_one(suite, test)
}

/// Prints the slowest and the failed suites, with what failed in them, and returns the sum of all.
fn summarise(results: &[(String, Ran, Duration)]) -> Counts {
    const SLOWEST: usize = 5;
    let mut by_time: Vec<_> = results.iter().collect();
    by_time.sort_by_key(|(_, _, time)| std::cmp::Reverse(*time));
    println!();
    for (name, ran, time) in by_time.iter().take(SLOWEST) {
        println!("{name}: {} in {:.1} s", ran.counts, time.as_secs_f64());
    }
    let mut sum = Counts::default();
    for (name, ran, _) in results {
        if ran.counts.failed > 0 {
            println!("FAILED   {name}");
            for line in &ran.failures.lines {
                println!("         {line}");
            }
        }
        sum += ran.counts;
    }
    sum
}

/// Runs one binary, as [`run_binary`] does, of which only the numbers matter.
pub fn run_one(name: &str, test: Command) -> Counts {
    run_binary(name, test).counts
}

/// Runs one binary, each line of whose output is shown behind its name. A binary that ends without its closing line
/// has crashed, which counts as a failure.
fn run_binary(name: &str, mut test: Command) -> Ran {
    let mut failures = Failures::default();
    println!("{name}: {}", command::shown(&test));
    let child = test
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("{name}: starting it failed: {error}");
            let counts = Counts::FAILURE;
            return Ran { counts, failures };
        }
    };
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read_lines(stderr, sender);
    }
    let mut counts: VecDeque<Counts> = VecDeque::new();
    for line in lines {
        // Empty lines and names of unit tests that pass are noise among thousands.
        if !line.trim().is_empty() {
            println!("{name} | {line}");
        }
        counts.extend(Counts::parse(&line));
        failures.hear(&line);
    }
    let mut sum = Counts::default();
    counts.iter().for_each(|one| sum += *one);
    let success = child.wait().is_ok_and(|status| status.success());
    if (!success && sum.failed == 0) || counts.is_empty() {
        println!("{name}: it ended without a result");
        sum += Counts::FAILURE;
    }
    let counts = sum;
    Ran { counts, failures }
}

/// Sends the lines of a stream, from a thread of its own.
fn read_lines(stream: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_added() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.52s";
        let counts = Counts::parse(line).unwrap();
        assert_eq!(counts.to_string(), "12 passed, 0 failed, 3 skipped");
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        let mut sum = Counts::parse(line).unwrap();
        assert_eq!(sum.to_string(), "1 passed, 2 failed");
        sum += counts;
        sum += Counts::FAILURE;
        assert_eq!(sum.to_string(), "13 passed, 3 failed, 3 skipped");
        for other in ["test result: ", "test attach ... ok", ""] {
            assert_eq!(Counts::parse(other), None, "{other}");
        }
    }

    #[test]
    fn test_binaries_are_found_among_cargos_messages() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/tests/Cargo.toml",
                "target":{{"kind":["test"],"name":"steering","src_path":"/w/tests/tests/steering/main.rs"}},
                "profile":{{"opt_level":"1","test":{test}}},"executable":{executable}}}"#
            )
            .replace('\n', "")
        };
        let suite = Suite::parse(&message(true, r#""/w/target/steering-1""#)).unwrap();
        assert_eq!(suite.name, "tests steering");
        assert_eq!(suite.folder, Path::new("/w/tests"));
        assert!(suite.integration);
        assert_eq!(Suite::parse(&message(true, "null")), None);
        assert_eq!(Suite::parse(&message(false, r#""/w/target/x""#)), None);
        assert_eq!(
            Suite::parse(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }

    #[test]
    fn the_reasons_of_failures_are_kept() {
        let mut command = Command::new("sh");
        let output = "echo test a ... FAILED; echo; echo failures:; echo; echo ---- a stdout ----; echo it is red; echo; \
                      echo failures:; echo '    a'; echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'; echo more; false";
        command.args(["-c", output]);
        let ran = run_binary("a suite", command);
        assert_eq!(ran.counts.to_string(), "0 passed, 1 failed");
        assert_eq!(ran.failures.lines, ["---- a stdout ----", "it is red"]);
    }

    #[test]
    fn a_crash_is_a_failure() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_one("a suite", command)
        };
        let result = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        assert_eq!(shell(result).to_string(), "2 passed, 0 failed");
        assert_eq!(
            shell(&format!("{result}; kill -SEGV $$")).to_string(),
            "2 passed, 1 failed"
        );
        assert_eq!(shell("exit 0").to_string(), "0 passed, 1 failed");
    }
}
