//! A container's statistics from the Docker Engine's API (`GET /containers/ID/stats` and `/json`), as
//! fractions of the container's own limits.
//!
//! Docker's own percentage is of the host's cores and misleads under a quota. One-shot statistics have no
//! sample before them, which would take the engine a second: the last answer is kept here.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use super::Poll;
use crate::load::reading::{Answer, Quantity, Sample};
use crate::peer::{
    Deadline, Stream,
    http::{Request, exchange},
};
use lb_report::{
    cgroup::cpus,
    cpu::{self, Count, Periods},
};

/// Bytes of an answer at most. Statistics have a number per core and per disk; `/json` has the environment.
const MAX_BODY: usize = 1 << 20;
/// The longest name of a container that is asked for.
const MAX_NAME: usize = 255;
const NANO: f64 = 1e9;
/// Of CFS, which Docker takes where only a quota is given.
const DEFAULT_PERIOD: i64 = 100_000;

/// What of `/containers/ID/json` is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    id: String,
    state: State,
    host_config: HostConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    running: bool,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    started_at: String,
}

/// 0 and the empty text are "no limit".
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    cpuset_cpus: String,
}

/// What of `/containers/ID/stats` is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    cpu_stats: CpuStats,
    #[serde(default)]
    memory_stats: MemoryStats,
}

#[derive(Clone, Debug, Deserialize)]
struct CpuStats {
    cpu_usage: CpuUsage,
    #[serde(default)]
    online_cpus: Option<u32>,
    #[serde(default)]
    throttling_data: Option<Throttling>,
}

#[derive(Clone, Debug, Deserialize)]
struct CpuUsage {
    /// In ns.
    total_usage: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
}

/// Empty while the container is stopped.
#[derive(Clone, Debug, Default, Deserialize)]
struct MemoryStats {
    usage: Option<u64>,
    /// The host's total where the container has no limit.
    limit: Option<u64>,
    #[serde(default)]
    stats: CacheStats,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CacheStats {
    /// Of version 1, of the whole tree; `inactive_file` is there, too, but of the group alone.
    total_inactive_file: Option<u64>,
    /// Of version 2.
    inactive_file: Option<u64>,
}

impl Container {
    /// Cores that it may use of those that are online: the least of its quota, its set and those.
    fn cores(&self, online: Option<u32>) -> Option<f64> {
        let HostConfig {
            nano_cpus,
            cpu_quota,
            cpu_period,
            cpuset_cpus,
        } = &self.host_config;
        let quota = if *nano_cpus > 0 {
            Some(*nano_cpus as f64 / NANO)
        } else {
            let period = if *cpu_period > 0 {
                *cpu_period
            } else {
                DEFAULT_PERIOD
            };
            (*cpu_quota > 0).then(|| *cpu_quota as f64 / period as f64)
        };
        [
            quota,
            cpus(cpuset_cpus).map(f64::from),
            online.map(f64::from),
        ]
        .into_iter()
        .flatten()
        .min_by(f64::total_cmp)
    }
}

impl Stats {
    fn count(&self) -> Count {
        // Without a quota there are zeros.
        let periods = self.cpu_stats.throttling_data.as_ref().map(|data| Periods {
            all: data.periods,
            throttled: data.throttled_periods,
        });
        Count {
            usage: Duration::from_nanos(self.cpu_stats.cpu_usage.total_usage),
            periods,
        }
    }

    fn memory(&self) -> Option<f64> {
        let MemoryStats {
            usage,
            limit,
            stats,
        } = &self.memory_stats;
        let cache = stats.total_inactive_file.or(stats.inactive_file)?;
        let limit = limit.filter(|limit| *limit > 0)?;
        Some((*usage)?.saturating_sub(cache) as f64 / limit as f64)
    }
}

/// The answer before.
#[derive(Clone, Debug)]
struct Before {
    /// Container and start: another of either has counters of its own.
    life: (String, String),
    at: Instant,
    count: Count,
}

/// Compares two answers with each other.
#[derive(Debug, Default)]
struct Comparison(Option<Before>);

impl Comparison {
    /// What an answer that came `at` says.
    fn answer(&mut self, container: &Container, stats: &Stats, at: Instant) -> Answer {
        let count = stats.count();
        let life = (container.id.clone(), container.state.started_at.clone());
        let before = self.0.replace(Before {
            life: life.clone(),
            at,
            count,
        });
        let cpu = before
            .filter(|before| before.life == life)
            .and_then(|before| {
                let wall = at.saturating_duration_since(before.at);
                let cores = container.cores(stats.cpu_stats.online_cpus)?;
                cpu::between(&before.count, &count, wall, cores)
            });
        let samples = [
            (Quantity::Utilisation, cpu.map(|used| used.fraction)),
            (Quantity::Memory, stats.memory()),
        ];
        Answer::of(
            samples
                .into_iter()
                .filter_map(|(quantity, value)| Some(Sample::new(quantity, value?)))
                .collect(),
        )
    }
}

/// Polls the engine about one container.
#[derive(Debug)]
pub struct Docker {
    socket: PathBuf,
    container: String,
    before: Comparison,
}

impl Docker {
    /// A container, by name or id, of the engine at this socket.
    #[must_use]
    pub fn new(socket: PathBuf, container: String) -> Self {
        Docker {
            socket,
            container,
            before: Comparison::default(),
        }
    }

    async fn ask(&mut self, deadline: &Deadline) -> Result<Answer, String> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        if self.container.is_empty()
            || self.container.len() > MAX_NAME
            || !self.container.chars().all(plain)
        {
            return Err("is no name or id of a container; `docker ps` lists them".to_owned());
        }
        let container: Container = self.get("json", deadline).await?;
        if !container.state.running || container.state.paused {
            return Err(format!("it is {}", container.state.status));
        }
        let stats: Stats = self
            .get("stats?stream=false&one-shot=true", deadline)
            .await?;
        Ok(self.before.answer(&container, &stats, Instant::now()))
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, deadline: &Deadline) -> Result<T, String> {
        let place = |reason: String| format!("{}: {reason}", self.socket.display());
        let stream = Stream::open_unix(&self.socket, deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        // Without a version in the path the engine answers in its own; what is read here is in all.
        let path = format!("/containers/{}/{what}", self.container);
        let request = Request {
            method: Method::GET,
            path: &path,
            host: "docker",
            headers: &[],
            authorization: None,
            body: Bytes::new(),
        };
        let response = exchange(stream, &request, MAX_BODY, deadline)
            .await
            .map_err(|error| place(error.to_string()))?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err("there is no such container; `docker ps` lists them".to_owned());
            }
            status => return Err(place(format!("answered {status}"))),
        }
        let body = response.whole().map_err(|error| place(error.to_string()))?;
        serde_json::from_slice(&body)
            .map_err(|error| place(format!("not what Docker answers: {error}")))
    }
}

impl Poll for Docker {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let answer = self.ask(deadline).await;
            if answer.is_err() {
                // What comes after a gap is compared with nothing.
                self.before = Comparison::default();
            }
            answer.map_err(|reason| format!("container {}: {reason}", self.container))
        })
    }
}

#[cfg(test)]
mod tests;
