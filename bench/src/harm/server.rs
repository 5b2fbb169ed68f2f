//! A server: some processors and one queue.

use std::collections::VecDeque;

use super::scenario::{Scenario, Sensor, What};

/// Time between decisions, seconds: the default of the settings.
pub const PERIOD: f64 = 5.0;
/// Queueing time, seconds, from which on a server takes no more.
pub const BACKLOG: f64 = 2.0;

/// What the faults of a server amount to at one time.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Multiple of its speed.
    pub speed: f64,
    /// Processor time that utilisation shows, for each second that a processor is busy.
    pub shown: f64,
    /// Part of the requests that it answers with errors.
    pub errors: f64,
    /// Work of an error, as a multiple of a request's.
    pub error_work: f64,
    pub dead: bool,
    pub absent: bool,
    pub sensor: Option<Sensor>,
}

impl Condition {
    /// Returns the condition of a server at a time after the warm-up.
    pub fn at(scenario: &Scenario, server: usize, at: f64) -> Self {
        let mut condition = Condition {
            speed: 1.0,
            shown: 1.0,
            errors: 0.0,
            error_work: 1.0,
            dead: false,
            absent: false,
            sensor: None,
        };
        let faults = scenario.faults.iter();
        for fault in
            faults.filter(|fault| fault.servers.contains(&server) && fault.when.applies(at))
        {
            match fault.what {
                What::Errors { part, work } => {
                    condition.errors = part;
                    condition.error_work = work;
                }
                What::Slow(speed) => condition.speed *= speed,
                What::Starved { speed, shown } => {
                    condition.speed *= speed;
                    condition.shown *= speed * shown;
                }
                What::Leak { to, over, shown } => {
                    let speed = 1.0 - (1.0 - to) * (at / over).clamp(0.0, 1.0);
                    condition.speed *= speed;
                    condition.shown *= if shown { 1.0 } else { speed };
                }
                What::Sensor(sensor) => condition.sensor = Some(sensor),
                What::Dead => condition.dead = true,
                What::Absent => condition.absent = true,
            }
        }
        condition
    }
}

/// A server.
#[derive(Debug)]
pub struct Server {
    pub size: usize,
    pub condition: Condition,
    pub connections: f64,
    /// Totals that the data plane counts.
    pub opened: u64,
    pub closed: u64,
    /// Answers in this period, and those of them that are errors.
    pub answers: u32,
    pub errors: u32,
    /// When each processor is free.
    free: Vec<f64>,
    /// When the requests that wait begin.
    waiting: VecDeque<f64>,
    /// Whether those are recorded.
    records_waiting: bool,
    /// Processor time shown by this period's reading and by the next one's.
    shown: (f64, f64),
    period_end: f64,
}

impl Server {
    /// Creates an idle server. `records_waiting`: whether [`Server::in_flight`] is asked.
    pub fn new(size: usize, condition: Condition, records_waiting: bool) -> Self {
        Server {
            size,
            condition,
            connections: 0.0,
            opened: 0,
            closed: 0,
            answers: 0,
            errors: 0,
            free: vec![0.0; size],
            waiting: VecDeque::new(),
            records_waiting,
            shown: (0.0, 0.0),
            period_end: PERIOD,
        }
    }

    /// What it can do, in processors.
    pub fn capacity(&self) -> f64 {
        if self.condition.dead || self.condition.absent {
            0.0
        } else {
            self.size as f64 * self.condition.speed
        }
    }

    /// The processor that is free first, and when.
    fn first_free(&self) -> (usize, f64) {
        let mut first = (0, f64::INFINITY);
        for (processor, free) in self.free.iter().enumerate() {
            if *free < first.1 {
                first = (processor, *free);
            }
        }
        first
    }

    /// How long a request would wait now.
    pub fn wait(&self, now: f64) -> f64 {
        (self.first_free().1 - now).max(0.0)
    }

    /// Takes a request of this work, in seconds of a processor at full speed. Returns when it is answered, or `None`
    /// if the queue is full or the server is dead.
    pub fn offer(&mut self, now: f64, work: f64) -> Option<f64> {
        let (processor, free) = self.first_free();
        let begin = free.max(now);
        if self.condition.dead || begin - now > BACKLOG {
            return None;
        }
        let time = work / self.condition.speed;
        let done = begin + time;
        self.free[processor] = done;
        if self.records_waiting && begin > now {
            self.waiting.push_back(begin);
        }
        let later = (done - begin.max(self.period_end)).clamp(0.0, time);
        self.shown.0 += (time - later) * self.condition.shown;
        self.shown.1 += later * self.condition.shown;
        Some(done)
    }

    /// Requests that wait or are worked on.
    pub fn in_flight(&mut self, now: f64) -> usize {
        while self.waiting.front().is_some_and(|begin| *begin <= now) {
            self.waiting.pop_front();
        }
        self.waiting.len() + self.free.iter().filter(|free| **free > now).count()
    }

    /// Loses everything that it does.
    pub fn die(&mut self) {
        self.free.fill(0.0);
        self.waiting.clear();
        self.shown = (0.0, 0.0);
    }

    /// Ends a period. Returns the utilisation that was shown in it.
    pub fn end_period(&mut self) -> f64 {
        let shown = self.shown.0 / (self.size as f64 * PERIOD);
        self.shown = (self.shown.1, 0.0);
        self.period_end += PERIOD;
        shown
    }
}
