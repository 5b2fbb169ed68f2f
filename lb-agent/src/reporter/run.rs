//! The reporter: takes samples and serves them until a signal comes.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use lb_report::{Newest, Sampler, Samples, Subject};

use super::{grpc, http::ReportSite, publisher};
use crate::hangup::Hangup;
use lb_serve::{Endpoint, Listener, Socket, incoming};

/// How long calls and connections may take to end when the reporter does.
const DRAIN: Duration = Duration::from_secs(3);

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
}

/// Reports until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// When something cannot be listened on, or a server ends by itself.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;

    let mut hangup = Hangup::new().context("waiting for SIGHUP")?;

    let sampler = Sampler::new(options.subject).context("looking at this host")?;
    let samples = Samples::start(sampler, options.interval).context("starting the sampler")?;
    let (stop, stopping) = watch::channel(false);
    let mut servers = JoinSet::new();
    let mut ready = Vec::new();
    for endpoint in options.grpc {
        let (newest, stopping) = (samples.newest(), stopping.clone());
        match Listener::bind(endpoint.clone()).await?.into_socket() {
            Socket::Tcp(listener) => {
                ready.push(format!("http://{}", listener.local_addr()?));
                servers.spawn(grpc::serve(incoming(listener), newest, stopping));
            }
            Socket::Unix(socket) => {
                ready.push(endpoint.to_string());
                servers.spawn(grpc::serve(incoming(socket), newest, stopping));
            }
        }
    }
    if let Some(address) = options.http {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address} for HTTP"))?;
        ready.push(format!("http://{}/load", listener.local_addr()?));
        let (newest, stopping) = (samples.newest(), stopping.clone());
        servers.spawn(async move {
            lb_serve::http::serve(incoming(listener), ReportSite(newest), stopping).await;
            Ok(())
        });
    }
    if let Some(publication) = options.mqtt {
        ready.push(publication.to_string());
        let (newest, stopping) = (samples.newest(), stopping.clone());
        servers.spawn(async move {
            publisher::publish(publication, newest, stopping).await;
            Ok(())
        });
    }

    // Whoever asks when it is ready gets a report.
    let mut newest = samples.newest();
    tokio::select! {
        first = newest.wait_for(Option::is_some) => {
            first.context("the sampler has ended; the log says why")?;
        }
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        () = hangup.recv() => return Ok(()),
        Some(ended) = servers.join_next() => {
            ended.context("a server's task failed")??;
            bail!("a server ended by itself; start the reporter again");
        }
    }
    println!("lb-agent report: ready on {}", ready.join(", "));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("telling the service manager that the reporter is ready: {error}");
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = hangup.recv() => {}
        Some(ended) = servers.join_next() => {
            ended.context("a server's task failed")??;
            bail!("a server ended by itself; start the reporter again");
        }
        () = ended(newest) => bail!("the sampler has ended; start the reporter again"),
    }
    // Without a service manager nobody listens.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let _ = stop.send(true);
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = servers.join_next().await {
            ended.context("a server's task failed")??;
        }
        anyhow::Ok(())
    });
    if let Ok(ended) = drained.await {
        return ended;
    }
    tracing::warn!("some calls did not end in {DRAIN:?}; they are cut off");
    Ok(())
}

/// Returns when nobody takes samples any more.
async fn ended(mut newest: Newest) {
    while newest.changed().await.is_ok() {}
}
