//! `lb-agent report`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use lb_agent::reporter::{self, Broker, Publication, Topic};
use lb_clients::peer::Secret;
use lb_model::duration;
use lb_report::{MAX_INTERVAL, MIN_INTERVAL, Subject};
use lb_serve::Endpoint;

/// Where the reporter listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/run/lb-agent/report.sock";

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// Where lb.v1.LoadReport is served over gRPC: http://ADDRESS:PORT or unix:PATH; give it again for more
    /// [default: unix:/run/lb-agent/report.sock if nothing else is served]. Neither encrypted nor
    /// authenticated: who can connect can read the report.
    #[arg(long, value_name = "URI", num_args = 1.., value_parser = listen)]
    listen: Vec<Endpoint>,
    /// Serve the report over HTTP, as JSON at /load and for Prometheus at /metrics.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Publish the report as JSON to a topic of this broker: mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(long, value_name = "URL", requires = "topic")]
    mqtt: Option<Broker>,
    /// The topic; each report is retained there.
    #[arg(long, value_name = "TOPIC", requires = "mqtt")]
    topic: Option<Topic>,
    /// The name to log in to the broker with.
    #[arg(long, value_name = "NAME", requires = "mqtt")]
    username: Option<String>,
    /// File that holds the password.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// File of the certificate authorities (PEM) that the broker's certificate may be of
    /// [default: the system's].
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    ca_file: Option<PathBuf>,
    /// Time between two samples, 100ms to 1m; CPU and network are means over it.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Measure this control group, as in /proc/PID/cgroup (`/` is the host), or its folder
    /// [default: the reporter's own if that has a limit, else the host].
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    cgroup: Option<PathBuf>,
    /// Measure the control group that this process is in, and the process's file descriptors and network.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// How long a part may make no progress, 5s to 1h: the reporter ends then, to be started again.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::watchdog)]
    watchdog: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
        return Ok(interval);
    }
    Err(format!(
        "write a time from {} to {}",
        duration::format(MIN_INTERVAL),
        duration::format(MAX_INTERVAL)
    ))
}

/// Other than the agent's own API a report changes nothing, so any address is taken.
fn listen(text: &str) -> Result<Endpoint, String> {
    if let Some(address) = text.strip_prefix("http://")
        && let Ok(address) = address.trim_end_matches('/').parse()
    {
        return Ok(Endpoint::Tcp(address));
    }
    text.parse()
}

impl Report {
    pub fn execute(self) -> anyhow::Result<()> {
        super::log_to_stderr(None);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(reporter::run(self.options()?))
    }

    fn options(self) -> anyhow::Result<reporter::Options> {
        let subject = match (self.cgroup, self.pid) {
            (Some(path), _) => Subject::Group(path),
            (None, Some(pid)) => Subject::Process(pid),
            (None, None) => Subject::Own,
        };
        let password = match self.password_file {
            // A service may change its folder.
            Some(path) => Some(Secret::File(
                std::path::absolute(&path)
                    .with_context(|| format!("finding {}", path.display()))?,
            )),
            None => None,
        };
        let mqtt = match (self.mqtt, self.topic) {
            (Some(broker), Some(topic)) => Some(Publication {
                broker,
                topic,
                username: self.username,
                password,
                ca: self.ca_file,
            }),
            // clap asks for both.
            _ => None,
        };
        let mut grpc = self.listen;
        if grpc.is_empty() && self.http.is_none() && mqtt.is_none() {
            grpc.push(Endpoint::Unix(DEFAULT_SOCKET.into()));
        }
        Ok(reporter::Options {
            subject,
            interval: self.interval,
            grpc,
            http: self.http,
            mqtt,
            watchdog: self.watchdog,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("100ms"), Ok(MIN_INTERVAL));
        assert_eq!(interval("1m"), Ok(MAX_INTERVAL));
        for text in ["99ms", "61s", "1", "0s"] {
            interval(text).expect_err(text);
        }
    }

    #[test]
    fn any_address_is_listened_on() {
        let expected = Endpoint::Tcp("0.0.0.0:7071".parse().expect("an address"));
        assert_eq!(listen("http://0.0.0.0:7071"), Ok(expected));
        assert_eq!(
            listen("unix:/run/x.sock"),
            Ok(Endpoint::Unix("/run/x.sock".into()))
        );
        for text in ["http://name:1", "0.0.0.0:1", "unix:"] {
            listen(text).expect_err(text);
        }
    }
}
