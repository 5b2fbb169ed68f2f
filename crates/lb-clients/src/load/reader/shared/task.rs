//! The task of a reader: polls once an interval and reports each answer.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lb_model::load::LoadSource;
use tokio::{sync::mpsc, time};

use super::super::{self as reader, Poll};
use crate::backoff::{random_part, varied};
use crate::load::{
    plausibility::PlausibilityFilter,
    reading::{Answer, Quantity, ReadError, Reading, Readings, Report, Sample, Subject},
};
use crate::peer::Deadline;

/// Percent of the interval by which a poll may be early or late, so that readers do not stay synchronised.
const JITTER: u32 = 5;
/// A poll that is still running this long after its deadline is dropped.
const OVERTIME: Duration = Duration::from_millis(100);
/// The part of the interval by which a poll may start late before it is put off to be spread again.
const LATE: u32 = 4;

/// What a reader's task needs besides the way to read.
#[derive(Debug)]
pub(in super::super) struct Task {
    pub(in super::super) subject: Subject,
    pub(in super::super) name: Arc<str>,
    pub(in super::super) interval: Duration,
    pub(in super::super) timeout: Duration,
    connection_limit: Option<u64>,
    memory_limit: Option<u64>,
    plausibility: PlausibilityFilter,
    opened: Arc<AtomicU64>,
    reports: mpsc::Sender<Report>,
}

impl Task {
    pub(in super::super) fn new(
        source: &LoadSource,
        subject: Subject,
        opened: Arc<AtomicU64>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let interval = reader::interval(source);
        Task {
            subject,
            name: source.name().into(),
            interval,
            timeout: source.timeout(interval),
            connection_limit: source.connection_limit,
            memory_limit: source.memory_limit,
            plausibility: PlausibilityFilter::default(),
            opened,
            reports,
        }
    }

    /// Reports an answer, or why there is none. Returns false if the receiver is closed.
    pub(in super::super) async fn report(&mut self, answer: Result<Answer, ReadError>) -> bool {
        let at = Instant::now();
        let outcome = answer.map(|answer| self.check(answer, at));
        let report = Report {
            subject: self.subject,
            source: Arc::clone(&self.name),
            at,
            outcome,
        };
        self.reports.send(report).await.is_ok()
    }

    fn check(&mut self, mut answer: Answer, at: Instant) -> Readings {
        add_limits(&mut answer, self.connection_limit, self.memory_limit);
        let opened = self.opened.load(Ordering::Relaxed);
        let filtered = self.plausibility.filter(&answer, opened, at);
        Readings {
            readings: filtered
                .samples
                .into_iter()
                .map(|sample| Reading {
                    quantity: sample.quantity,
                    value: sample.value,
                    at,
                    source: Arc::clone(&self.name),
                })
                .collect(),
            command: answer.command,
            ignored: filtered.ignored,
            missing: answer.missing,
            unreadable: answer.unreadable,
        }
    }
}

/// Adds the limits that the operator has configured and the peer does not report.
fn add_limits(answer: &mut Answer, connections: Option<u64>, memory: Option<u64>) {
    if let Some(limit) = connections
        && answer.get(Quantity::ConnectionLimit).is_none()
    {
        answer
            .samples
            .push(Sample::new(Quantity::ConnectionLimit, limit as f64));
    }
    if let (Some(limit), Some(bytes)) = (memory, answer.get(Quantity::MemoryBytes))
        && answer.get(Quantity::Memory).is_none()
    {
        answer
            .samples
            .push(Sample::new(Quantity::Memory, bytes / limit as f64));
    }
}

/// Returns the offset in the interval at which a reader starts. Offsets are spread over the interval, and the same
/// reader has the same offset each time.
fn phase(subject: &Subject, name: &str, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (subject, name).hash(&mut hasher);
    interval.mul_f64(hasher.finish() as f64 / u64::MAX as f64)
}

/// Polls once an interval until the receiver of the reports is closed.
pub(in super::super) async fn poll(mut task: Task, mut poll: Box<dyn Poll>) {
    let mut next = time::Instant::now() + phase(&task.subject, &task.name, task.interval);
    loop {
        time::sleep_until(next).await;
        if next.elapsed() > task.interval / LATE {
            // This process was stopped, or got no CPU: all readers are due. They are spread again.
            time::sleep(random_part(task.interval)).await;
            next = time::Instant::now();
        }
        let deadline = Deadline::after(task.timeout);
        let answer = ask(poll.as_mut(), &deadline).await;
        if !task.report(answer.map_err(ReadError::Failed)).await {
            return;
        }
        next += varied(task.interval, JITTER);
        // Polls that were missed, while the machine was suspended for example, are not made up for.
        next = next.max(time::Instant::now());
    }
}

/// Polls once. A poll that does not keep to its deadline is dropped.
async fn ask(poll: &mut dyn Poll, deadline: &Deadline) -> Result<Answer, String> {
    let mut answer = poll.poll(deadline);
    loop {
        let end = deadline.end() + OVERTIME;
        match time::timeout_at(end, answer.as_mut()).await {
            Ok(answer) => return answer,
            // This process slept; the deadline is later now.
            Err(_) if deadline.end() + OVERTIME > end => {}
            Err(_) => return Err("no answer in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_limits_fill_gaps_only() {
        let mut answer = Answer::from_samples(vec![Sample::new(Quantity::MemoryBytes, 50.0)]);
        add_limits(&mut answer, Some(7), Some(200));
        assert_eq!(answer.get(Quantity::ConnectionLimit), Some(7.0));
        assert_eq!(answer.get(Quantity::Memory), Some(0.25));
        let reported = vec![
            Sample::new(Quantity::Memory, 0.5),
            Sample::new(Quantity::MemoryBytes, 50.0),
            Sample::new(Quantity::ConnectionLimit, 9.0),
        ];
        let mut answer = Answer::from_samples(reported.clone());
        add_limits(&mut answer, Some(7), Some(200));
        assert_eq!(answer.samples, reported);
        let mut answer = Answer::default();
        add_limits(&mut answer, None, Some(200));
        assert_eq!(answer.samples, []);
    }

    #[test]
    fn readers_are_spread_over_the_interval() {
        let interval = Duration::from_secs(5);
        let mut quarters = [0; 4];
        for last in 0..=255 {
            let subject = Subject {
                vip: "192.0.2.1:80/tcp".parse().unwrap(),
                real: std::net::IpAddr::from([10, 0, 0, last]).into(),
            };
            let phase = phase(&subject, "x", interval);
            quarters[(phase.as_secs_f64() / 5.0 * 3.999) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 32), "{quarters:?}");
    }
}
