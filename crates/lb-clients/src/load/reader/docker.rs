//! A container's statistics from the Docker Engine's API (`GET /containers/ID/stats` and `/json`), as fractions of the
//! container's own limits.
//!
//! The percentage that Docker shows is of the host's cores and misleads under a quota. One-shot statistics lack the
//! previous sample, which the engine would need a second to take, so the reader keeps the last answer itself.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Poll,
    kind::{LoadReader, Reader, SourceTarget, Transport},
    shared::{
        json::{Field, lenient},
        peer::validate_text,
    },
};
use crate::json;
use crate::load::reading::{Answer, Quantity, Sample};
use crate::peer::{
    Deadline, Stream,
    http::{Request, exchange},
};
use lb_report::{
    cgroup::cpus,
    cpu::{self, Count, Periods},
};

lb_model::settings! {
    /// A container's statistics.
    pub(super) struct Settings {
        /// Name or id of the container; may contain `{address}` and `{real}`.
        container: String;
        /// Socket of the Docker Engine.
        socket: PathBuf = "/var/run/docker.sock".into();
    }
    validate(settings) {
        validate_text("container", &settings.container)
    }
}

/// Bytes of an answer at most. Statistics have values per core and per disk; `/json` has the environment.
const MAX_BODY: usize = 1 << 20;
/// The longest name of a container.
const MAX_NAME: usize = 255;
const NANO: f64 = 1e9;
/// The default period of CFS in microseconds, which Docker uses if only a quota is given.
const DEFAULT_PERIOD: i64 = 100_000;

/// The fields that are read of `/containers/ID/json`.
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

/// 0 and the empty text mean "no limit".
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    nano_cpus: i64,
    cpu_quota: i64,
    cpu_period: i64,
    cpuset_cpus: String,
}

/// The fields that are read of `/containers/ID/stats`.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    cpu_stats: CpuStats,
    /// A container can be read without it.
    #[serde(default, deserialize_with = "lenient")]
    memory_stats: Field<MemoryStats>,
}

#[derive(Clone, Debug, Deserialize)]
struct CpuStats {
    cpu_usage: CpuUsage,
    #[serde(default, deserialize_with = "lenient")]
    online_cpus: Field<u32>,
    #[serde(default, deserialize_with = "lenient")]
    throttling_data: Field<Throttling>,
}

#[derive(Clone, Debug, Deserialize)]
struct CpuUsage {
    /// In nanoseconds.
    total_usage: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
}

/// All fields are absent while the container is stopped.
#[derive(Clone, Debug, Default, Deserialize)]
struct MemoryStats {
    usage: Option<u64>,
    /// The host's memory if the container has no limit.
    limit: Option<u64>,
    #[serde(default)]
    stats: CacheStats,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct CacheStats {
    /// Version 1: of the group and its descendants. `inactive_file` is also present there, but of the group alone.
    total_inactive_file: Option<u64>,
    /// Version 2.
    inactive_file: Option<u64>,
}

impl Container {
    /// Returns the cores that the container may use: the least of its quota, its CPU set and the online CPUs.
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
        // Without a quota both counters are 0.
        let periods = self
            .cpu_stats
            .throttling_data
            .value
            .as_ref()
            .map(|data| Periods {
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
        } = self.memory_stats.value.as_ref()?;
        let cache = stats.total_inactive_file.or(stats.inactive_file)?;
        let limit = limit.filter(|limit| *limit > 0)?;
        Some((*usage)?.saturating_sub(cache) as f64 / limit as f64)
    }
}

/// The counters of the last answer.
#[derive(Clone, Debug)]
struct Counters {
    /// Id and start time of the container. A restart resets the counters.
    run: (String, String),
    at: Instant,
    count: Count,
}

/// Compares each answer with the last one.
#[derive(Debug, Default)]
struct Comparison(Option<Counters>);

impl Comparison {
    /// Returns the values of an answer that arrived at `at`.
    fn answer(&mut self, container: &Container, stats: &Stats, at: Instant) -> Answer {
        let count = stats.count();
        let run = (container.id.clone(), container.state.started_at.clone());
        let previous = self.0.replace(Counters {
            run: run.clone(),
            at,
            count,
        });
        let cpu = previous
            .filter(|previous| previous.run == run)
            .and_then(|previous| {
                let wall = at.saturating_duration_since(previous.at);
                let cores = container.cores(stats.cpu_stats.online_cpus.value)?;
                cpu::between(&previous.count, &count, wall, cores)
            });
        let samples = [
            (Quantity::Utilisation, cpu.map(|used| used.fraction)),
            (Quantity::Memory, stats.memory()),
        ];
        Answer::from_samples(
            samples
                .into_iter()
                .filter_map(|(quantity, value)| Some(Sample::new(quantity, value?)))
                .collect(),
        )
    }
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Docker>();

/// Polls the engine for one container.
#[derive(Debug)]
pub struct Docker {
    socket: PathBuf,
    container: String,
    comparison: Comparison,
}

impl Docker {
    /// Creates a poller of a container, given by name or id, of the engine at this socket.
    #[must_use]
    pub fn new(socket: PathBuf, container: String) -> Self {
        Docker {
            socket,
            container,
            comparison: Comparison::default(),
        }
    }

    async fn read(&mut self, deadline: &Deadline) -> Result<Answer, String> {
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
        if self.container.is_empty()
            || self.container.len() > MAX_NAME
            || !self.container.chars().all(is_allowed)
        {
            return Err(
                "this is not a name or id of a container; `docker ps` lists them".to_owned(),
            );
        }
        let container: Container = self.get("json", deadline).await?;
        if !container.state.running || container.state.paused {
            return Err(format!("it is {}", container.state.status));
        }
        let stats: Stats = self
            .get("stats?stream=false&one-shot=true", deadline)
            .await?;
        Ok(self.comparison.answer(&container, &stats, Instant::now()))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        resource: &str,
        deadline: &Deadline,
    ) -> Result<T, String> {
        let at_socket = |reason: String| format!("{}: {reason}", self.socket.display());
        let stream = Stream::open_unix(&self.socket, deadline)
            .await
            .map_err(|error| at_socket(error.to_string()))?;
        // Without a version in the path the engine uses its own API version; every version has the fields read here.
        let path = format!("/containers/{}/{resource}", self.container);
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
            .map_err(|error| at_socket(error.to_string()))?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err("there is no such container; `docker ps` lists them".to_owned());
            }
            status => return Err(at_socket(format!("answered {status}"))),
        }
        let body = response
            .whole()
            .map_err(|error| at_socket(error.to_string()))?;
        json::parse(&body)
            .and_then(serde_json::from_value)
            .map_err(|error| at_socket(format!("not an answer of the Docker Engine: {error}")))
    }
}

impl LoadReader for Docker {
    const NAME: &'static str = "docker";
    const HELP: &'static str = "Reads the statistics of a container from the Docker Engine of this machine; utilisation and \
                                memory are of the container's own limits.";
    const TRANSPORT: Transport = Transport::UnixSocket;
    const COUNTS_CLIENTS: bool = false;

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        let container = target.fill(&settings.container);
        Reader::Poll(Box::new(Docker::new(settings.socket, container)))
    }
}

impl Poll for Docker {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let answer = self.read(deadline).await;
            if answer.is_err() {
                // An answer after a gap has no predecessor to compare with.
                self.comparison = Comparison::default();
            }
            answer.map_err(|reason| format!("container {}: {reason}", self.container))
        })
    }
}

#[cfg(test)]
mod tests;
