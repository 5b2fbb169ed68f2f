//! A load that runs beside the test, and its record.

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

/// Failures whose words are kept.
const KEPT_ERRORS: usize = 10;

/// What the workers of a load write down.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) stop: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    latency: Histogram,
    under_way: UnderWay,
    errors: Mutex<Vec<String>>,
    servers: Mutex<BTreeMap<String, u64>>,
    /// When each worker's last request that was answered had begun.
    heard: Mutex<BTreeMap<usize, Instant>>,
}

impl Record {
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn connected(&self, server: Option<&str>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(server) = server {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            *servers.entry(server.to_owned()).or_default() += 1;
        }
    }

    /// To be called before a request is begun; the request is over when the value is dropped.
    pub(super) fn begin(&self) -> Begun<'_> {
        self.under_way.begin()
    }

    /// A worker's request that began then was answered just now.
    pub(super) fn answered(&self, worker: usize, begin: Instant) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.latency.record(begin.elapsed());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(worker, begin);
    }

    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.len() < KEPT_ERRORS {
            errors.push(format!("{error:#}"));
        }
    }
}

/// Requests that have begun and are not over, in two groups: those that began before somebody asked, and
/// those after.
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
            // Else somebody may have looked at the count already.
            if self.group.load(Ordering::SeqCst) == group {
                return begun;
            }
        }
    }

    /// Lets later requests be counted in the other group, and gives this one's count.
    fn turn(&self) -> &AtomicU64 {
        &self.counts[self.group.fetch_xor(1, Ordering::SeqCst)]
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a load has seen so far.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LoadReport {
    /// Connections on which at least one request was answered.
    pub connections: u64,
    /// Requests, failed ones included.
    pub requests: u64,
    /// Requests without a right answer: refused, reset, timed out, or a wrong answer.
    pub failed: u64,
    /// Half of the answers came within this many microseconds; absent without answers.
    pub latency_p50_us: Option<u64>,
    /// 99 of 100 answers came within this many microseconds; absent without answers.
    pub latency_p99_us: Option<u64>,
    /// The first failures, in words.
    pub errors: Vec<String>,
    /// Connections by the name of the server that answered, where the protocol tells.
    pub servers: BTreeMap<String, u64>,
}

/// A running load; it stops when dropped.
#[derive(Debug)]
pub struct Load {
    record: Arc<Record>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Runs `work` on a thread in `namespace`, in a tokio runtime of one thread.
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

    /// What it has seen so far.
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

    /// Waits until `count` more requests than now are over, so that something is known to have been under
    /// load.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub fn wait_requests(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        let goal = self.record.requests.load(Ordering::Relaxed) + count;
        wait_for(&format!("{count} more requests"), patience, || {
            Ok((self.record.requests.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// How many workers have had an answer to something they asked after `since`.
    pub fn heard_since(&self, since: Instant) -> usize {
        let heard = self
            .record
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        heard.values().filter(|begin| **begin > since).count()
    }

    /// Waits until every request that has begun by now is over.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub fn wait_begun(&self, patience: Duration) -> anyhow::Result<()> {
        let left = self.record.under_way.turn();
        wait_for("the end of the requests under way", patience, || {
            Ok((left.load(Ordering::SeqCst) == 0).then_some(()))
        })
    }

    /// Lets the workers end what they have begun, and does not wait for it.
    pub fn ask_to_stop(&self) {
        self.record.stop.store(true, Ordering::Relaxed);
    }

    /// Lets the workers end what they have begun, then gives the record.
    ///
    /// # Errors
    /// When the load could not run at all.
    pub fn stop(mut self) -> anyhow::Result<LoadReport> {
        self.ask_to_stop();
        self.join()?;
        Ok(self.report())
    }

    /// Waits until the load ends by itself, then gives the record.
    ///
    /// # Errors
    /// When the load could not run at all.
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
        // Its record is not wanted any more, so neither is its failure.
        let _ = self.join();
    }
}
