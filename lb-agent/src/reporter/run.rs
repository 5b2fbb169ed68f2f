//! The reporter: takes samples and serves them until a signal comes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use lb_report::{Newest, Sampler, Samples, Subject};

use super::{grpc, http::ReportSite, publisher};
use crate::hangup::Hangup;
use lb_serve::{
    Endpoint, Listener, Socket, incoming,
    vital::{End, Vital},
    watchdog::{Pulse, Watchdog, beat},
};

/// How long calls and connections may take to end when the reporter does.
const DRAIN: Duration = Duration::from_secs(3);

// The reporter's vital parts: see `lb_serve::vital`.
const GRPC: &str = "a server of reports over gRPC";
const HTTP: &str = "the server of reports over HTTP";
const PUBLISHER: &str = "the publisher of reports";
const SAMPLER: &str = "the thread that takes samples";
const RUNTIME: &str = "the runtime, which runs all tasks,";

/// What is reported, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub subject: Subject,
    /// Time between two samples.
    pub interval: Duration,
    /// Where gRPC is served.
    pub grpc: Vec<Endpoint>,
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Where reports are published.
    pub mqtt: Option<publisher::Publication>,
    /// How long a vital part may make no progress, besides the time between two samples.
    pub watchdog: Duration,
}

/// Reports until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// When something cannot be listened on, or a vital part ends by itself or hangs.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;

    let mut hangup = Hangup::new().context("waiting for SIGHUP")?;

    let sampler = Sampler::new(options.subject).context("looking at this host")?;
    let samples = Samples::start(sampler, options.interval).context("starting the sampler")?;
    let (stop, stopping) = watch::channel(false);
    let mut vital = Vital::new();
    let mut parts = Vec::new();
    let mut ready = Vec::new();
    for endpoint in options.grpc {
        let (newest, stopping) = (samples.newest(), stopping.clone());
        match Listener::bind(endpoint.clone()).await?.into_socket() {
            Socket::Tcp(listener) => {
                ready.push(format!("http://{}", listener.local_addr()?));
                vital.spawn(GRPC, grpc::serve(incoming(listener), newest, stopping));
            }
            Socket::Unix(socket) => {
                ready.push(endpoint.to_string());
                vital.spawn(GRPC, grpc::serve(incoming(socket), newest, stopping));
            }
        }
        parts.push(GRPC);
    }
    if let Some(address) = options.http {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address} for HTTP"))?;
        ready.push(format!("http://{}/load", listener.local_addr()?));
        let (newest, stopping) = (samples.newest(), stopping.clone());
        let site = ReportSite(newest);
        vital.spawn(
            HTTP,
            lb_serve::http::serve(incoming(listener), site, stopping),
        );
        parts.push(HTTP);
    }
    if let Some(publication) = options.mqtt {
        ready.push(publication.to_string());
        let (newest, stopping) = (samples.newest(), stopping.clone());
        vital.spawn(PUBLISHER, publisher::publish(publication, newest, stopping));
        parts.push(PUBLISHER);
    }
    let runtime = Arc::default();
    let sampled = Arc::default();
    let watchdog = Watchdog::new("lb-agent report", options.watchdog + options.interval)
        // Both make progress by themselves.
        .watch(SAMPLER, Arc::clone(&sampled), || {})
        .watch(RUNTIME, Arc::clone(&runtime), || {});
    watchdog.start(&vital).context("starting a thread")?;
    vital.spawn(RUNTIME, beat(runtime));
    vital.spawn(SAMPLER, follow(samples.newest(), sampled));

    // Whoever asks when it is ready gets a report.
    let mut newest = samples.newest();
    tokio::select! {
        Ok(_) = newest.wait_for(Option::is_some) => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        () = hangup.recv() => return Ok(()),
        end = vital.next_end() => return Err(fail(end)),
    }
    println!("lb-agent report: ready on {}", ready.join(", "));
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("telling the service manager that the reporter is ready: {error}");
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = hangup.recv() => {}
        end = vital.next_end() => return Err(fail(end)),
    }
    // Without a service manager nobody listens.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    let drained = tokio::time::timeout(DRAIN, async {
        for part in parts {
            vital.finish(part).await?;
        }
        anyhow::Ok(())
    });
    if let Ok(ended) = drained.await {
        return ended;
    }
    tracing::warn!("some calls did not end in {DRAIN:?}; they are cut off");
    Ok(())
}

/// Shows that samples are taken. Returns when nobody takes them any more.
async fn follow(mut newest: Newest, pulse: Arc<Pulse>) {
    while newest.changed().await.is_ok() {
        pulse.progress();
    }
}

/// Why the reporter ends, for its operator and its service manager.
fn fail(end: End) -> anyhow::Error {
    // There may be no service manager.
    let _ = sd_notify::notify(&[NotifyState::Status(&format!("{end}; the reporter ends"))]);
    end.into_error()
        .context("the reporter ends; start it again")
}
