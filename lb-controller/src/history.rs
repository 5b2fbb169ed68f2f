//! The history of load: what pools, load balancers and instances carried, in the files of `lb-history`.
//!
//! Tasks of pools note what they know once a second, in memory; a task writes what was gathered once in a step, on a thread for
//! blocking work. A disk that is full or slow holds up nobody.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lb_history::{
    Key, Kind, Point, Quantity, Query, Sample, Store, Written, quantity::Gathered, ring::STEP,
};
use lb_model::{
    pool::{InstanceName, PoolName},
    project::is_pool_of_nodes,
};
use lb_steering::scaling::Offered;
use tokio::time::MissedTickBehavior;

use crate::{
    clock::unix_now,
    controller::Controller,
    pool::{InstanceView, Readings},
};

/// The folder of the series, in that of the controller.
pub const FOLDER: &str = "history";
/// The key of the warning that something cannot be recorded.
const WARNING: &str = "history";

/// Where pools note what they carry. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<Key, Gathered>>>);

impl Recorder {
    fn gathered(&self) -> MutexGuard<'_, BTreeMap<Key, Gathered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> BTreeMap<Key, Gathered> {
        std::mem::take(&mut *self.gathered())
    }

    /// Notes what a pool carried in `elapsed`, and its instances now.
    pub fn note(
        &self,
        pool: &PoolName,
        readings: &Readings,
        views: &[InstanceView],
        elapsed: Duration,
    ) {
        let (sums, instances) = samples(readings, views, elapsed);
        let mut gathered = self.gathered();
        let mut add = |key: Option<Key>, sample: &Sample| {
            if let Some(key) = key {
                gathered.entry(key).or_default().add(sample);
            }
        };
        add(key_of_pool(pool), &sums);
        for (number, sample) in instances {
            let place = crate::pool::place(pool, number);
            add(Key::new(Kind::Instance, &place), &sample);
        }
    }
}

/// The series of a pool, or of the load balancer whose nodes it is.
#[must_use]
pub fn key_of_pool(pool: &PoolName) -> Option<Key> {
    match pool.as_str().rsplit_once('-') {
        Some((_, id)) if is_pool_of_nodes(pool) => Key::new(Kind::Balancer, id),
        _ => Key::new(Kind::Pool, pool.as_str()),
    }
}

/// The series of an instance: that of its place, which its successors have as well.
#[must_use]
pub fn key_of_instance(name: &InstanceName) -> Option<Key> {
    Key::new(Kind::Instance, &crate::pool::place(&name.pool, name.number))
}

/// The sample of a pool, and those of its instances by number.
fn samples(
    readings: &Readings,
    views: &[InstanceView],
    elapsed: Duration,
) -> (Sample, Vec<(u32, Sample)>) {
    let seconds = elapsed.as_secs_f64();
    let per_second = |count: f64| (seconds > 0.0).then(|| count / seconds);
    let offered = match readings.offered {
        Some(Offered::Flows(flows)) => Some(flows),
        _ => None,
    };
    let rate = readings.requests.or(offered).and_then(per_second);
    let instances: Vec<(u32, Sample)> = views
        .iter()
        .map(|view| {
            let place = view.name.rsplit_once('-').map_or("", |(place, _)| place);
            let read = readings.instances.iter().find(|one| one.name == place);
            let value = |sample: Option<lb_steering::Sample>| sample.map(|sample| sample.value);
            let score = view.score;
            let utilisation = read.and_then(|read| value(read.utilisation));
            let serving = f64::from(u8::from(view.state.serves()));
            let sample = Sample::default()
                .with(
                    Quantity::Connections,
                    read.and_then(|read| value(read.connections)),
                )
                .with(Quantity::Serving, Some(serving))
                .with(Quantity::Utilisation, utilisation)
                .with(
                    Quantity::Cpu,
                    score.and_then(|score| score.cpu).or(utilisation),
                )
                .with(
                    Quantity::Memory,
                    read.and_then(|read| value(read.memory))
                        .or(score.and_then(|score| score.memory)),
                )
                .with(
                    Quantity::Network,
                    read.and_then(|read| value(read.network))
                        .or(score.and_then(|score| score.network)),
                )
                .with(
                    Quantity::Latency,
                    score.and_then(|score| score.inputs.response),
                );
            (view.number, sample)
        })
        .collect();
    let serving: Vec<&Sample> = instances
        .iter()
        .map(|(_, sample)| sample)
        .filter(|sample| sample.get(Quantity::Serving) == Some(1.0))
        .collect();
    let figures = |quantity| serving.iter().filter_map(move |one| one.get(quantity));
    let mean = |quantity| {
        let (mut sum, mut count) = (0.0, 0.0);
        for figure in figures(quantity) {
            sum += figure;
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    };
    let sum = |quantity| figures(quantity).reduce(|one, other| one + other);
    let latency = readings.latency.map(|sample| sample.value);
    let pool = Sample::default()
        .with(Quantity::Rate, rate)
        .with(Quantity::Connections, sum(Quantity::Connections))
        .with(Quantity::Serving, Some(serving.len() as f64))
        .with(Quantity::Utilisation, mean(Quantity::Utilisation))
        .with(Quantity::Cpu, mean(Quantity::Cpu))
        .with(Quantity::Memory, mean(Quantity::Memory))
        .with(Quantity::Network, mean(Quantity::Network))
        .with(
            Quantity::Latency,
            latency.or_else(|| mean(Quantity::Latency)),
        );
    (pool, instances)
}

/// The history. Clones are the same.
#[derive(Clone, Debug)]
pub struct History {
    store: Arc<Mutex<Store>>,
    recorder: Recorder,
}

impl History {
    /// Opens the series in the controller's folder, with room for so many bytes.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(state: &Path, bytes: u64, recorder: Recorder) -> io::Result<Self> {
        let store = Store::open(&state.join(FOLDER), bytes)?;
        Ok(History {
            store: Arc::new(Mutex::new(store)),
            recorder,
        })
    }

    /// Writes what was gathered, once in a step, until the process ends.
    pub async fn run(self, controller: Controller) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut step = now() / STEP;
        loop {
            ticks.tick().await;
            let current = now() / STEP;
            if current == step {
                continue;
            }
            let time = step * STEP;
            step = current;
            let objects = self.recorder.take();
            let store = Arc::clone(&self.store);
            let work = tokio::task::spawn_blocking(move || {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let written = store.write(time, &objects, started.elapsed());
                (written, store.room())
            });
            let trouble = match work.await {
                Ok((written, room)) => trouble(&written, room),
                Err(error) => Some(format!("the history of load was not written: {error}")),
            };
            controller.set_warning(WARNING, trouble);
        }
    }

    /// Answers a question about a series; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(&self, key: Key, query: Query) -> io::Result<Option<Vec<Point>>> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || {
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.read(&key, &query)
        });
        read.await.map_err(io::Error::other)?
    }
}

/// What an operator must know of what was written.
fn trouble(written: &Written, (count, most): (usize, usize)) -> Option<String> {
    if let Some(error) = &written.error {
        return Some(format!(
            "the history of load cannot be written: {error}; make room on the disk of the controller's folder"
        ));
    }
    (written.refused > 0).then(|| {
        format!(
            "the history of load has room for {most} series and has {count}: {} have none; raise history_disk",
            written.refused
        )
    })
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    unix_now().as_secs()
}
