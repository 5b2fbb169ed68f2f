//! CPU time of 1,000 probes per second, and how soon frozen reals are detected.
//!
//! A third of the reals is probed by `tcp`, a third by `http` and a third by `mqtt`. nginx and Mosquitto answer, for
//! each real at a loopback address of its own. One thread runs all probes, and its CPU time counts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use lb_clients::health::{
    probe::{http::Http, mqtt::Mqtt, tcp::Tcp},
    runner::{FirstProbe, ProbeConfig, Report, Runner, slots},
    state::{Health, State},
};
use lb_clients::peer::Target;
use lb_model::{check::Check, component::Component};
use lb_tests::{
    Namespace,
    server::{Mosquitto, Nginx},
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::sync::mpsc;

/// Cost of probes.
#[derive(Debug, Serialize)]
pub struct ProbeFigure {
    /// Probes per second.
    pub rate: f64,
    /// CPU time for 1,000 probes per second, in percent of one core.
    pub percent: f64,
    /// Seconds within which a frozen real must be detected.
    pub promised: f64,
    /// Seconds after which the last of the frozen reals was detected.
    pub detected: f64,
    /// Reals that were frozen.
    pub frozen: usize,
}

const REALS: u16 = 999;
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(500);
/// Time until all reals are up and their probes are spread.
const SETTLE: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(20);
/// Limit for the detection.
const PATIENCE: Duration = Duration::from_secs(30);
const HTTP: u16 = 80;
const MQTT: u16 = 1883;

/// Probes servers in a namespace of their own.
pub fn measure() -> anyhow::Result<ProbeFigure> {
    let namespace = Namespace::new("bench-probes")?;
    let _nginx = Nginx::start(&namespace, HTTP)?;
    let broker = Mosquitto::start(&namespace, MQTT)?;
    let figure = namespace.enter(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(probe(&broker))
    })??;
    println!(
        "\n{:.0} probes per second (tcp, http, mqtt) used {:.1} % of a core per 1,000; {} frozen brokers were \
         detected within {:.2} s, the limit is {:.2} s",
        figure.rate, figure.percent, figure.frozen, figure.detected, figure.promised
    );
    Ok(figure)
}

async fn probe(broker: &Mosquitto) -> anyhow::Result<ProbeFigure> {
    let slots = slots().context("asking how many files may be open")?;
    let (sender, mut reports) = mpsc::channel(usize::from(REALS));
    let runners: Vec<Runner> = (0..REALS)
        .map(|number| {
            let config = config(number);
            let health = Health::new(Instant::now());
            Runner::start(
                "10.0.0.1:80/tcp".parse().expect("this is a VIP"),
                config.target.address.ip().into(),
                config,
                health,
                FirstProbe::Spread,
                Arc::clone(&slots),
                sender.clone(),
            )
        })
        .collect();
    count(&mut reports, SETTLE).await?;
    let before = thread_time()?;
    let start = Instant::now();
    let probes = count(&mut reports, WATCH).await?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = probes as f64 / seconds;
    let percent = (thread_time()? - before).as_secs_f64() / seconds * 100.0 * 1_000.0 / rate;

    broker.freeze()?;
    let frozen = usize::from(REALS / 3);
    let detected = wait_down(&mut reports, frozen).await;
    broker.thaw()?;
    drop(runners);
    Ok(ProbeFigure {
        rate,
        percent,
        promised: config(0).check.detection_time().as_secs_f64(),
        detected: detected?.as_secs_f64(),
        frozen,
    })
}

fn config(number: u16) -> ProbeConfig {
    let (probe, port) = match number % 3 {
        0 => (Component::new("mqtt", &Mqtt::default()), MQTT),
        1 => (Component::new("http", &Http::default()), HTTP),
        _ => (Component::new("tcp", &Tcp {}), HTTP),
    };
    let mut check = Check::new(probe);
    check.interval = INTERVAL;
    check.fast_interval = Some(INTERVAL);
    check.timeout = Some(TIMEOUT);
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
    let target = Target {
        address: SocketAddr::new(address, port),
        mark: None,
    };
    ProbeConfig { check, target }
}

/// Counts probes. Fails if one of them fails.
async fn count(reports: &mut mpsc::Receiver<Report>, time: Duration) -> anyhow::Result<u64> {
    let mut probes = 0;
    let all = async {
        while let Some(report) = reports.recv().await {
            if !report.outcome.verdict.is_alive() {
                bail!("{}: {}", report.real, report.outcome.reason);
            }
            probes += 1;
        }
        Ok(())
    };
    match tokio::time::timeout(time, all).await {
        Ok(result) => result.map(|()| probes),
        Err(_) => Ok(probes),
    }
}

/// Returns how long it takes until this many reals are down.
async fn wait_down(reports: &mut mpsc::Receiver<Report>, count: usize) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut down = 0;
    let all = async {
        while down < count {
            let report = reports.recv().await.context("the runners ended")?;
            if report.change.is_some_and(|change| change.to == State::Down) {
                down += 1;
            }
        }
        anyhow::Ok(start.elapsed())
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .with_context(|| format!("not all of {count} frozen reals were detected"))?
}

fn thread_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("reading the clock")?;
    Ok(time.into())
}
