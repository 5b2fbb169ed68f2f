//! A load that runs in the background of a test, and its record.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use super::Histogram;
use crate::{Namespace, wait_for};

/// Failures whose description is kept.
const KEPT_ERRORS: usize = 10;

/// Failures that are kept until they are taken.
const KEPT_FAILURES: usize = 10_000;

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it was known to have failed.
    pub at: Instant,
    /// The client's error.
    pub why: String,
}

/// What the workers of a load record.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) stop: AtomicBool,
    paused: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    latency: Histogram,
    under_way: UnderWay,
    errors: Mutex<Vec<String>>,
    /// Those that have not been taken.
    failures: Mutex<Vec<Failure>>,
    servers: Mutex<BTreeMap<String, u64>>,
    /// For each worker, when its last answered request had begun.
    answered: Mutex<BTreeMap<usize, Instant>>,
}

impl Record {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether no further request may begin for now.
    pub(super) fn paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub(super) fn connected(&self, server: Option<&str>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(server) = server {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            *servers.entry(server.to_owned()).or_default() += 1;
        }
    }

    /// Counts a request that is about to begin, until the value is dropped.
    pub(super) fn begin(&self) -> Begun<'_> {
        self.under_way.begin()
    }

    /// Records that a worker's request that began at `begin` was answered just now.
    pub(super) fn answered(&self, worker: usize, begin: Instant) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.latency.record(begin.elapsed());
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.insert(worker, begin);
    }

    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(1, Ordering::Relaxed);
        let why = format!("{error:#}");
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < KEPT_ERRORS {
            errors.push(why.clone());
        }
        drop(errors);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < KEPT_FAILURES {
            let at = Instant::now();
            failures.push(Failure { at, why });
        }
    }
}

/// Requests under way, in two groups: those that began before the last call of [`turn`](Self::turn), and later ones.
#[derive(Debug, Default)]
struct UnderWay {
    group: AtomicUsize,
    counts: [AtomicU64; 2],
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Begun<'a>(&'a AtomicU64);

impl UnderWay {
    fn begin(&self) -> Begun<'_> {
        loop {
            let group = self.group.load(Ordering::SeqCst);
            let begun = Begun(&self.counts[group]);
            begun.0.fetch_add(1, Ordering::SeqCst);
            // Otherwise `turn` was called in between, and the count may have been read already.
            if self.group.load(Ordering::SeqCst) == group {
                return begun;
            }
        }
    }

    /// Counts later requests in the other group, and returns the count of this one.
    fn turn(&self) -> &AtomicU64 {
        &self.counts[self.group.fetch_xor(1, Ordering::SeqCst)]
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a load has recorded so far.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LoadReport {
    /// Connections on which at least one request was answered.
    pub connections: u64,
    /// Requests, failed ones included.
    pub requests: u64,
    /// Requests without a correct answer: refused, reset, timed out, or answered wrongly.
    pub failed: u64,
    /// Median latency in microseconds; `None` without answers.
    pub latency_p50_us: Option<u64>,
    /// 99th percentile of the latency in microseconds; `None` without answers.
    pub latency_p99_us: Option<u64>,
    /// Descriptions of the first failures.
    pub errors: Vec<String>,
    /// Connections by the name of the server, if the protocol reports it.
    pub servers: BTreeMap<String, u64>,
}

/// A running load. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    record: Arc<Record>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Runs `work` on a thread in `namespace`, in a single-threaded tokio runtime.
    pub(super) fn start<F: Future<Output = ()>>(
        namespace: &Namespace,
        work: impl FnOnce(Arc<Record>) -> F + Send + 'static,
    ) -> Self {
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let thread = namespace.thread(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            tokio::task::LocalSet::new().block_on(&runtime, work(shared));
            Ok(())
        });
        Self {
            record,
            thread: Some(thread),
        }
    }

    /// Returns what the load has recorded so far.
    pub fn report(&self) -> LoadReport {
        let record = &self.record;
        let micros = |quantile| {
            record
                .latency
                .quantile(quantile)
                .map(|value| u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
        };
        LoadReport {
            connections: record.connections.load(Ordering::Relaxed),
            requests: record.requests.load(Ordering::Relaxed),
            failed: record.failed.load(Ordering::Relaxed),
            latency_p50_us: micros(0.5),
            latency_p99_us: micros(0.99),
            errors: record
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            servers: record
                .servers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Waits until `count` further requests are over.
    ///
    /// # Errors
    /// Fails if that takes longer than `patience`.
    pub fn wait_requests(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        let goal = self.record.requests.load(Ordering::Relaxed) + count;
        wait_for(&format!("{count} more requests"), patience, || {
            Ok((self.record.requests.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// Returns how many workers have received an answer to a request that began after `since`.
    pub fn answered_since(&self, since: Instant) -> usize {
        let answered = self
            .record
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        answered.values().filter(|begin| **begin > since).count()
    }

    /// Waits until every request that is under way now is over.
    ///
    /// # Errors
    /// Fails if that takes longer than `patience`.
    pub fn wait_begun(&self, patience: Duration) -> anyhow::Result<()> {
        let left = self.record.under_way.turn();
        wait_for("the end of the requests under way", patience, || {
            Ok((left.load(Ordering::SeqCst) == 0).then_some(()))
        })
    }

    /// Returns the requests that have failed since the last call, the first 10,000 of them.
    pub fn take_failures(&self) -> Vec<Failure> {
        let failures = &self.record.failures;
        std::mem::take(&mut failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets the workers finish their requests and close their connections, and begin no others until [`Load::resume`].
    /// HTTP loads pause; others go on.
    pub fn pause(&self) {
        self.record.paused.store(true, Ordering::Relaxed);
    }

    /// Lets the workers go on.
    pub fn resume(&self) {
        self.record.paused.store(false, Ordering::Relaxed);
    }

    /// Asks the workers to finish their requests and to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.record.stop.store(true, Ordering::Relaxed);
    }

    /// Lets the workers finish their requests, and returns the record.
    ///
    /// # Errors
    /// Fails if the load could not run at all.
    pub fn stop(mut self) -> anyhow::Result<LoadReport> {
        self.ask_to_stop();
        self.join()?;
        Ok(self.report())
    }

    /// Waits until the load has ended, by itself or because it was asked to stop.
    ///
    /// # Errors
    /// Fails if the load could not run at all.
    pub fn wait_end(&mut self) -> anyhow::Result<()> {
        self.join()
    }

    /// Waits until the load ends by itself, and returns the record.
    ///
    /// # Errors
    /// Fails if the load could not run at all.
    pub fn finish(mut self) -> anyhow::Result<LoadReport> {
        self.join()?;
        Ok(self.report())
    }

    fn join(&mut self) -> anyhow::Result<()> {
        match self.thread.take() {
            Some(thread) => thread
                .join()
                .map_err(|_| anyhow!("a load's thread panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ask_to_stop();
        // The record is no longer of interest, and so is a failure.
        let _ = self.join();
    }
}
