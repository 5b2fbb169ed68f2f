//! A writer that is killed with SIGKILL at any moment loses at most the step that it was in.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use lb_history::{Key, Kind, Quantity, Query, Sample, Store, quantity::Gathered};
use libtest_mimic::{Arguments, Trial};

/// The variable with the folder of a process that is to write, and the one with its first step.
const FOLDER: &str = "LB_HISTORY_FOLDER";
const FIRST: &str = "LB_HISTORY_FIRST";
/// The time of step 0: rows of all rings begin.
const START: u64 = 1_700_000_400;
/// Series, and how often the writer is killed.
const SERIES: u64 = 20;
const KILLS: usize = 60;

fn main() -> ExitCode {
    if let Some(folder) = env::var_os(FOLDER) {
        let first = env::var(FIRST).unwrap().parse().unwrap();
        write(Path::new(&folder), first);
    }
    let killed = Trial::test("a_killed_writer_loses_at_most_a_step", || {
        a_killed_writer_loses_at_most_a_step();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![killed]).exit_code()
}

fn key(number: u64) -> Key {
    Key::new(Kind::Instance, &format!("web-{number}")).unwrap()
}

/// What is written of a series in a step.
fn figure(number: u64, step: u64) -> f64 {
    (step % 512 + number) as f64
}

/// Writes a step after the other, and says so after each, until it is killed.
fn write(folder: &Path, first: u64) -> ! {
    let mut store = Store::open(folder, 1 << 30).unwrap();
    let mut out = std::io::stdout().lock();
    for step in first.. {
        let objects: BTreeMap<Key, Gathered> = (0..SERIES)
            .map(|number| {
                let mut gathered = Gathered::default();
                let rate = Some(figure(number, step));
                gathered.add(&Sample::default().with(Quantity::Rate, rate));
                (key(number), gathered)
            })
            .collect();
        let written = store.write(START + step * 10, &objects, Duration::ZERO);
        assert_eq!(written.error, None);
        writeln!(out, "{step}").unwrap();
        out.flush().unwrap();
    }
    unreachable!("there is always a next step");
}

fn a_killed_writer_loses_at_most_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut next = 0;
    for _ in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(FOLDER, folder.path())
            .env(FIRST, next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // So many steps at least, and then at any moment.
        let mut last = None;
        for _ in 0..random.usize(1..30) {
            last = Some(lines.next().unwrap().unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..2_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            last = Some(line);
        }
        // A line may be cut off as well; then its step counts as not said.
        let last: u64 = last.unwrap().parse().unwrap();
        check(folder.path(), last);
        next = last + 1;
    }
    assert!(next > 300, "{next} steps");
}

/// All that was said to be written is there, and right, in each ring.
fn check(folder: &Path, last: u64) {
    let store = Store::open(folder, 1 << 30).unwrap();
    let now = START + (last + 1) * 10;
    let read = |number: u64, from: u64, step: u64| {
        let query = Query::new(Some(from), Some(now), Some(step), now).unwrap();
        store.read(&key(number), &query).unwrap().unwrap()
    };
    for number in [0, SERIES - 1] {
        let oldest = (last + 1).saturating_sub(350);
        let points = read(number, START + oldest * 10, 10);
        assert_eq!(
            points.len() as u64,
            last + 1 - oldest,
            "series {number} at {last}"
        );
        for (step, point) in (oldest..).zip(&points) {
            assert_eq!(point.time, START + step * 10);
            let (mean, _) = point.get(Quantity::Rate).unwrap();
            let expected = figure(number, step);
            assert!(
                (mean - expected).abs() <= expected / 1_000.0,
                "{step}: {mean}"
            );
        }
        // Minutes that have ended are there as well, further back than the first ring.
        if last > 400 {
            let minutes = (last + 1) / 6;
            let points = read(number, START, 60);
            assert!(
                points.len() as u64 >= minutes,
                "{} of {minutes}",
                points.len()
            );
        }
    }
}
