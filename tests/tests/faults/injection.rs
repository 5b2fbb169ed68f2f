//! Faults of a bench in random order, while traffic flows.

use std::{
    env, fs, io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// For how many seconds faults are injected; without it each fault happens once. `cargo xtask test --faults` sets it.
const SECONDS: &str = "LB_FAULTS_SECONDS";
/// The seed of the order of the faults, to have the order of an earlier run again.
const SEED: &str = "LB_FAULTS_SEED";
/// Only faults whose name contains this.
const ONLY: &str = "LB_FAULTS_ONLY";

/// Limit for what takes a second or two on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Something that goes wrong. The function makes it happen, waits until it was noticed, and until it was repaired if that
/// is the product's affair; else it repairs it itself.
#[derive(Debug)]
pub struct Fault<B> {
    pub name: &'static str,
    /// What of the traffic may fail meanwhile, in words; `None` if nothing may.
    pub may_fail: Option<&'static str>,
    inject: fn(&mut B) -> anyhow::Result<()>,
}

/// A fault of which the traffic notices nothing.
pub const fn harmless<B>(name: &'static str, inject: fn(&mut B) -> anyhow::Result<()>) -> Fault<B> {
    Fault {
        name,
        may_fail: None,
        inject,
    }
}

/// A fault that some of the traffic cannot survive.
pub const fn cutting<B>(
    name: &'static str,
    may_fail: &'static str,
    inject: fn(&mut B) -> anyhow::Result<()>,
) -> Fault<B> {
    Fault {
        name,
        may_fail: Some(may_fail),
        inject,
    }
}

/// Programs and traffic, and the faults that they are to survive.
pub trait Bench: Sized + 'static {
    const FAULTS: &'static [Fault<Self>];

    /// Starts everything; traffic flows.
    fn start() -> anyhow::Result<Self>;

    /// Called before a fault.
    fn begin(&mut self, fault: &Fault<Self>) -> anyhow::Result<()>;

    /// Waits until all is well again after a fault, and traffic flows. Nothing else may have failed than what the fault allows.
    fn end(&mut self, fault: &Fault<Self>) -> anyhow::Result<()>;

    /// Ends the traffic; returns what it was.
    fn finish(self) -> anyhow::Result<String>;
}

/// A way to damage a file.
pub type Damage = fn(&Path) -> io::Result<()>;

/// The file is removed.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Nothing is left in the file.
pub fn truncate(path: &Path) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.set_len(0)
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

fn run<B: Bench>(bench: &mut B, fault: &Fault<B>) -> anyhow::Result<()> {
    bench.begin(fault)?;
    (fault.inject)(bench).context("it was not noticed or not repaired")?;
    bench.end(fault)
}

/// Injects each fault of a bench once, and then further ones for as long as `LB_FAULTS_SECONDS` says.
///
/// # Panics
/// A fault is not noticed or not repaired, or harms more than it may.
pub fn inject_all<B: Bench>() {
    let seed = setting(SEED).unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(setting(SECONDS).unwrap_or(0));
    println!("faults: {SEED}={seed}");
    let only = env::var(ONLY).unwrap_or_default();
    let faults: Vec<&Fault<B>> = B::FAULTS
        .iter()
        .filter(|fault| fault.name.contains(&only))
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = B::start().unwrap();
    let begin = Instant::now();
    let mut injected = 0;
    loop {
        let mut order = faults.clone();
        random.shuffle(&mut order);
        for fault in order {
            if injected >= faults.len() && begin.elapsed() >= time {
                break;
            }
            let start = Instant::now();
            if let Err(error) = run(&mut bench, fault) {
                panic!("{SEED}={seed}, fault {injected}, {}: {error:#}", fault.name);
            }
            injected += 1;
            println!(
                "faults: {} ({:.1} s)",
                fault.name,
                start.elapsed().as_secs_f64()
            );
        }
        if begin.elapsed() >= time {
            break;
        }
    }
    let traffic = bench.finish().unwrap();
    println!("faults: {injected} injected; {traffic}");
}
