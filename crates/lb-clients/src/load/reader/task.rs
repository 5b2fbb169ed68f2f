//! The life of a reader.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time};

use super::Poll;
use crate::backoff::varied;
use crate::load::{
    plausible::Plausible,
    reading::{Answer, Quantity, Reading, Readings, Report, Sample, Subject, Trouble},
    spec::Source,
};
use crate::peer::Deadline;

/// Percent of the interval by which questions are asked earlier or later, so that readers that fell into step fall out
/// of it again.
const JITTER: u32 = 5;
/// A poll that has not ended so long behind its deadline is dropped.
const OVERTIME: Duration = Duration::from_millis(100);

/// What a reader knows besides how to ask.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) subject: Subject,
    pub(super) name: Arc<str>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    connection_limit: Option<u64>,
    memory_limit: Option<u64>,
    plausible: Plausible,
    opened: Arc<AtomicU64>,
    reports: mpsc::Sender<Report>,
}

impl Task {
    pub(super) fn new(
        source: &Source,
        subject: Subject,
        opened: Arc<AtomicU64>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Task {
            subject,
            name: source.name.as_str().into(),
            interval: source.interval,
            timeout: source.timeout,
            connection_limit: source.connection_limit,
            memory_limit: source.memory_limit,
            plausible: Plausible::default(),
            opened,
            reports,
        }
    }

    /// Tells an answer, or why there is none. False: nobody listens any more.
    pub(super) async fn tell(&mut self, answer: Result<Answer, Trouble>) -> bool {
        let at = Instant::now();
        let outcome = answer.map(|answer| self.believe(answer, at));
        let report = Report {
            subject: self.subject,
            source: Arc::clone(&self.name),
            at,
            outcome,
        };
        self.reports.send(report).await.is_ok()
    }

    fn believe(&mut self, mut answer: Answer, at: Instant) -> Readings {
        limit(&mut answer, self.connection_limit, self.memory_limit);
        let opened = self.opened.load(Ordering::Relaxed);
        let sifted = self.plausible.sift(&answer, opened, at);
        Readings {
            readings: sifted
                .samples
                .into_iter()
                .map(|sample| Reading {
                    quantity: sample.quantity,
                    value: sample.value,
                    at,
                    source: Arc::clone(&self.name),
                })
                .collect(),
            order: answer.order,
            ignored: sifted.ignored,
            missing: answer.missing,
        }
    }
}

/// Adds what the operator knows and the peer does not.
fn limit(answer: &mut Answer, connections: Option<u64>, memory: Option<u64>) {
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

/// Where in its interval a reader begins: spread, and the same each time.
fn phase(subject: &Subject, name: &str, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (subject, name).hash(&mut hasher);
    interval.mul_f64(hasher.finish() as f64 / u64::MAX as f64)
}

/// Asks once an interval.
pub(super) async fn poll(mut task: Task, mut poll: Box<dyn Poll>) {
    let mut next = time::Instant::now() + phase(&task.subject, &task.name, task.interval);
    loop {
        time::sleep_until(next).await;
        let deadline = Deadline::after(task.timeout);
        let answer = time::timeout(task.timeout + OVERTIME, poll.poll(&deadline))
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if !task.tell(answer.map_err(Trouble::Failed)).await {
            return;
        }
        next += varied(task.interval, JITTER);
        // After a pause of the machine, questions are not caught up with.
        next = next.max(time::Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_limits_fill_what_is_not_told() {
        let mut answer = Answer::of(vec![Sample::new(Quantity::MemoryBytes, 50.0)]);
        limit(&mut answer, Some(7), Some(200));
        assert_eq!(answer.get(Quantity::ConnectionLimit), Some(7.0));
        assert_eq!(answer.get(Quantity::Memory), Some(0.25));
        let told = vec![
            Sample::new(Quantity::Memory, 0.5),
            Sample::new(Quantity::MemoryBytes, 50.0),
            Sample::new(Quantity::ConnectionLimit, 9.0),
        ];
        let mut answer = Answer::of(told.clone());
        limit(&mut answer, Some(7), Some(200));
        assert_eq!(answer.samples, told);
        let mut answer = Answer::default();
        limit(&mut answer, None, Some(200));
        assert_eq!(answer.samples, []);
    }

    #[test]
    fn readers_are_spread_over_the_interval() {
        let interval = Duration::from_secs(5);
        let mut quarters = [0; 4];
        for last in 0..=255 {
            let subject = Subject {
                vip: "192.0.2.1:80/tcp".parse().unwrap(),
                real: std::net::Ipv4Addr::new(10, 0, 0, last).into(),
            };
            let phase = phase(&subject, "x", interval);
            quarters[(phase.as_secs_f64() / 5.0 * 3.999) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 32), "{quarters:?}");
    }
}
