//! Response times, request by request. Each server has as many processors as its capacity; a request takes an
//! exponential time of one processor and waits for the next free one (M/M/c, first come first served). Requests
//! arrive as a Poisson process and are split by the weights of the period.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use lb_bench::random::Random;
use lb_steering::{LIFE_BUCKETS, Load, Observation, Sample, Signs, Steering};

use crate::{
    policy::{Decider, Policy},
    scenario::PERIOD,
};

/// Mean work of a request, seconds of one processor.
const WORK: f64 = 0.01;
/// Processors of the servers, repeated for all of them.
const PROCESSORS: [usize; 4] = [1, 2, 4, 8];
/// The unit of lives, seconds.
const UNIT: f64 = 1_048_576e-9;
/// Periods that are played.
const PERIODS: usize = 120;
/// The first periods, in which the controller learns; they are not counted.
const LEARNING: usize = 40;

struct Server {
    /// When each processor is free, in nanoseconds.
    free: BinaryHeap<Reverse<u64>>,
    processors: usize,
    opened: u64,
    closed: u64,
    signs: Signs,
    /// Requests that are not answered yet.
    open: Vec<Request>,
}

/// A request; times are in seconds since the start.
struct Request {
    arrived: f64,
    begun: f64,
    done: f64,
}

impl Server {
    /// Ends a period: counts what was answered in it. Returns the utilisation.
    fn end_period(&mut self, end: f64) -> f64 {
        let start = end - PERIOD;
        let mut busy = 0.0;
        self.open.retain(|request| {
            busy += (request.done.min(end) - request.begun.max(start)).max(0.0);
            let is_open = request.done > end;
            if !is_open {
                self.closed += 1;
                let units = ((request.done - request.arrived) / UNIT) as u64;
                let bucket = (u64::BITS - units.leading_zeros()) as usize;
                self.signs.lives[bucket.min(LIFE_BUCKETS - 1)] += 1;
            }
            is_open
        });
        busy / (self.processors as f64 * PERIOD)
    }
}

/// Plays some servers at this load. Returns the 99th percentile of response times after learning, seconds.
pub fn play(policy: Policy, settings: &Steering, servers: usize, load: f64, seed: u64) -> f64 {
    let mut random = Random::new(seed);
    let mut pool: Vec<Server> = (0..servers)
        .map(|number| {
            let processors = PROCESSORS[number % PROCESSORS.len()];
            Server {
                free: (0..processors).map(|_| Reverse(0)).collect(),
                processors,
                opened: 0,
                closed: 0,
                signs: Signs::default(),
                open: Vec::new(),
            }
        })
        .collect();
    let capacities: Vec<f64> = pool.iter().map(|server| server.processors as f64).collect();
    let rate = load * capacities.iter().sum::<f64>() / WORK;
    let mut decider = Decider::new(policy, settings);
    let mut times: Vec<f32> = Vec::new();
    let mut utilisations = vec![None; servers];
    let mut clock = 0.0;
    for period in 0..PERIODS {
        let start = 86_400.0 + period as f64 * PERIOD;
        let observations: Vec<Observation> = pool
            .iter()
            .zip(&utilisations)
            .enumerate()
            .map(|(number, (server, utilisation))| Observation {
                address: IpAddr::V4(Ipv4Addr::from(0x0a01_0001 + number as u32)).into(),
                weight: 100,
                drained: false,
                evacuated: false,
                up: true,
                wants_drain: false,
                since_up: Duration::from_secs_f64(start),
                load: Load {
                    utilisation: utilisation.map(|value| Sample {
                        value,
                        age: Duration::ZERO,
                    }),
                    ..Load::default()
                },
                opened: server.opened,
                closed: server.closed,
                signs: Some(server.signs),
                flows: None,
                share: None,
            })
            .collect();
        let now = Duration::from_secs_f64(start);
        let decided = decider.decide(now, &observations, &capacities);
        let weights = decided.iter().map(|decided| decided.weight);
        let all: f64 = weights.clone().sum();
        let cumulative: Vec<f64> = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / all;
                Some(*sum)
            })
            .collect();
        let end = (period + 1) as f64 * PERIOD;
        loop {
            let next = clock + random.exponential() / rate;
            if next >= end {
                // Poisson arrivals have no memory, so the next period draws again.
                clock = end;
                break;
            }
            clock = next;
            let draw = random.unit();
            let chosen = cumulative
                .partition_point(|edge| *edge < draw)
                .min(servers - 1);
            let server = &mut pool[chosen];
            let work = random.exponential() * WORK;
            let Some(Reverse(free)) = server.free.pop() else {
                continue;
            };
            let begin = (free as f64 * 1e-9).max(clock);
            let done = begin + work;
            server.free.push(Reverse((done * 1e9) as u64));
            server.opened += 1;
            server.signs.opened += 1;
            server.open.push(Request {
                arrived: clock,
                begun: begin,
                done,
            });
            if period >= LEARNING {
                times.push((done - clock) as f32);
            }
        }
        for (server, utilisation) in pool.iter_mut().zip(&mut utilisations) {
            let used = server.end_period(end);
            *utilisation = Some((used * (1.0 + 0.03 * random.normal())).clamp(0.0, 1.0));
        }
    }
    times.sort_unstable_by(f32::total_cmp);
    f64::from(times[(times.len() - 1) * 99 / 100])
}
