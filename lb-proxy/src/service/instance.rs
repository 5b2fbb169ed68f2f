//! An instance of a service: its load, its failures and its connections.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    choice::{Load, PeakLatency, Typical},
    clock,
    upstream::Pool,
};

/// The least part of its weight that an instance has in its slow start.
const LEAST_RAMP: f64 = 0.05;

/// Why a request failed on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection could be made.
    Connect,
    /// The connection broke before the head of the answer, or the answer is no HTTP.
    Broken,
    /// The head of the answer, or the next part of its body, did not come in time.
    TimedOut,
    /// The answer's status is 500 or more.
    Status,
    /// The connection broke in the answer's body.
    Cut,
}

impl Fault {
    /// All kinds, in the order of their counters.
    pub const ALL: [Fault; 5] = [
        Fault::Connect,
        Fault::Broken,
        Fault::TimedOut,
        Fault::Status,
        Fault::Cut,
    ];

    /// Returns the value of the label `reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Connect => "connect",
            Fault::Broken => "broken",
            Fault::TimedOut => "timed_out",
            Fault::Status => "status",
            Fault::Cut => "cut",
        }
    }
}

/// Totals of an instance.
#[derive(Debug, Default)]
pub struct Totals {
    /// Requests that were sent to it.
    pub requests: AtomicU64,
    /// Failures by [`Fault`].
    pub faults: [AtomicU64; Fault::ALL.len()],
    /// Times until the heads of its answers, in microseconds.
    pub latency: AtomicU64,
    /// Answers that [`latency`](Self::latency) is the sum of.
    pub answers: AtomicU64,
    /// Connections that were made to it.
    pub connections: AtomicU64,
    /// Times that it was ejected.
    pub ejections: AtomicU64,
}

/// An instance.
#[derive(Debug)]
pub struct Instance {
    /// Its address.
    pub address: SocketAddr,
    /// A number that stays with the address, on every proxy.
    pub id: u64,
    /// Its totals.
    pub totals: Totals,
    /// Its idle connections.
    pub pool: Pool,
    pending: AtomicU32,
    latency: PeakLatency,
    /// The latency that is usual among the instances of its service.
    typical: Arc<Typical>,
    /// When its slow start began, in milliseconds; 0: it has none.
    started: AtomicU64,
    failures_in_a_row: AtomicU32,
    ejections_in_a_row: AtomicU32,
    /// Until when it is ejected, in milliseconds; 0: it is not.
    ejected_until: AtomicU64,
    /// Totals of the last seconds, the oldest first.
    samples: Mutex<VecDeque<Sample>>,
}

/// Seconds over which rates are averaged.
const WINDOW: usize = 10;

/// Totals at one second.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Duration,
    requests: u64,
    failures: u64,
    latency: u64,
    answers: u64,
}

/// What an instance did in the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    /// Requests per second.
    pub rate: f64,
    /// The part of them that failed; `None` without requests.
    pub error_rate: Option<f64>,
    /// The mean time until the head of an answer, in seconds; `None` without answers.
    pub latency: Option<f64>,
}

impl Instance {
    /// An instance with idle connections for so many threads, beside others whose usual latency is `typical`.
    #[must_use]
    pub fn new(address: SocketAddr, threads: usize, typical: Arc<Typical>) -> Self {
        Instance {
            address,
            id: BuildHasherDefault::<DefaultHasher>::default().hash_one(address),
            totals: Totals::default(),
            pool: Pool::new(threads),
            pending: AtomicU32::new(0),
            latency: PeakLatency::default(),
            typical,
            started: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            ejections_in_a_row: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            samples: Mutex::default(),
        }
    }

    fn sample_now(&self) -> Sample {
        let faults = &self.totals.faults;
        Sample {
            at: clock::now(),
            requests: self.totals.requests.load(Relaxed),
            failures: faults.iter().map(|count| count.load(Relaxed)).sum(),
            latency: self.totals.latency.load(Relaxed),
            answers: self.totals.answers.load(Relaxed),
        }
    }

    /// Notes its totals. Called about once a second.
    pub fn sample(&self) {
        let now = self.sample_now();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == WINDOW {
            samples.pop_front();
        }
        samples.push_back(now);
    }

    /// Returns what it did in the last seconds.
    #[must_use]
    pub fn recent(&self) -> Recent {
        let now = self.sample_now();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(then) = samples.front() else {
            return Recent::default();
        };
        let seconds = now.at.saturating_sub(then.at).as_secs_f64().max(0.1);
        let requests = (now.requests - then.requests) as f64;
        let answers = now.answers - then.answers;
        Recent {
            rate: requests / seconds,
            error_rate: (requests > 0.0)
                .then(|| ((now.failures - then.failures) as f64 / requests).min(1.0)),
            latency: (answers > 0)
                .then(|| (now.latency - then.latency) as f64 / 1e6 / answers as f64),
        }
    }

    /// Returns the requests that it has not answered yet.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// Returns its latency in seconds, if it has answered recently.
    #[must_use]
    pub fn latency(&self) -> Option<f64> {
        self.latency.read(clock::now(), self.typical.get())
    }

    /// Returns its load for a choice.
    #[must_use]
    pub fn load(&self, slow_start: Duration) -> Load {
        let now = clock::now();
        Load {
            pending: self.pending(),
            latency: self.latency.read(now, self.typical.get()),
            ramp: self.ramp(now, slow_start),
        }
    }

    fn ramp(&self, now: Duration, slow_start: Duration) -> f64 {
        match self.started.load(Relaxed) {
            0 => 1.0,
            started => {
                let age = now.saturating_sub(Duration::from_millis(started));
                if age >= slow_start {
                    return 1.0;
                }
                (age.as_secs_f64() / slow_start.as_secs_f64()).max(LEAST_RAMP)
            }
        }
    }

    /// Begins its slow start. What was known of its latency is about what it was before.
    pub fn start_slowly(&self) {
        self.latency.forget();
        self.started.store(clock::now_millis().max(1), Relaxed);
    }

    /// Counts a request that is sent to it.
    pub fn count_request(&self) {
        self.totals.requests.fetch_add(1, Relaxed);
    }

    /// Counts an answer whose head took so long.
    pub fn answered(&self, latency: Duration) {
        self.latency.observe(clock::now(), latency);
        self.totals.answers.fetch_add(1, Relaxed);
        let microseconds = latency.as_micros() as u64;
        self.totals.latency.fetch_add(microseconds, Relaxed);
    }

    /// Counts a success: it ends a row of failures.
    pub fn succeeded(&self) {
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.failures_in_a_row.store(0, Relaxed);
        }
        if self.ejections_in_a_row.load(Relaxed) != 0 && !self.is_ejected() {
            self.ejections_in_a_row.store(0, Relaxed);
        }
    }

    /// Counts a failure, which for the choice counts as an answer after `penalty`. Returns the failures in a row.
    pub fn failed(&self, fault: Fault, penalty: Duration) -> u32 {
        self.totals.faults[fault as usize].fetch_add(1, Relaxed);
        self.latency.observe(clock::now(), penalty);
        self.failures_in_a_row.fetch_add(1, Relaxed) + 1
    }

    /// Returns whether it is ejected.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Relaxed) != 0
    }

    /// Ejects it; each time in a row takes `time` longer, `most` times at most.
    pub fn eject(&self, time: Duration, most: u32) {
        let times = self.ejections_in_a_row.fetch_add(1, Relaxed) + 1;
        let until = clock::now() + time * times.min(most);
        self.ejected_until
            .store((until.as_millis() as u64).max(1), Relaxed);
        self.failures_in_a_row.store(0, Relaxed);
        self.totals.ejections.fetch_add(1, Relaxed);
    }

    /// Takes it back if its time is over. Returns whether it was taken back.
    pub fn readmit(&self) -> bool {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 || until > clock::now_millis() {
            return false;
        }
        self.ejected_until.store(0, Relaxed);
        self.start_slowly();
        true
    }
}

/// A request that an instance has: it counts as pending until this is dropped.
#[derive(Debug)]
pub struct Lease(Arc<Instance>);

impl Lease {
    /// Counts a request.
    #[must_use]
    pub fn new(instance: Arc<Instance>) -> Self {
        instance.pending.fetch_add(1, Relaxed);
        Lease(instance)
    }

    /// Returns the instance.
    #[must_use]
    pub const fn instance(&self) -> &Arc<Instance> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}
