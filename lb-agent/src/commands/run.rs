//! `lb-agent run`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, error::ErrorKind};
use lb_agent::api::{self, Api};
use lb_agent::config::{AgentSettings, Config, KernelLog};
use lb_agent::control::{self, Changed};
use lb_agent::metrics::Exporter;
use lb_agent::reload::Reloader;
use lb_agent::store::State;
use lb_agent::supervisor;
use lb_dataplane::netlink::NextHops;
use lb_dataplane::{
    KernelDataplane,
    options::{Options, XdpMode},
};
use lb_serve::{Endpoint, Listener, incoming, stopped};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::MissedTickBehavior,
};

/// How often the tables are looked after.
const TICK: Duration = Duration::from_secs(1);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Interface to attach to; give it again for more.
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    iface: Vec<String>,
    /// Configuration file; what is given here counts more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the database [default: /var/lib/lb-agent].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Directory of the pins, on a BPF file system [default: /sys/fs/bpf/lb-agent].
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// Where the API listens: unix:PATH or http://ADDRESS:PORT on loopback; give it again for more
    /// [default: unix:/run/lb-agent/api.sock].
    #[arg(long, value_name = "URI", num_args = 1..)]
    listen: Vec<Endpoint>,
    /// Serve metrics for Prometheus at http://ADDRESS:PORT/metrics, for example 127.0.0.1:9464 [default: nowhere].
    /// Neither encrypted nor authenticated: who can connect can read them.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// How to attach: in the driver, in the kernel's network stack, or in the driver if it can
    /// [default: auto].
    #[arg(long, value_name = "auto|native|generic")]
    xdp_mode: Option<XdpMode>,
    /// Let checks run programs (`exec`): whoever may call the API then runs programs as the agent's user.
    #[arg(long)]
    exec_checks: bool,
    /// Log the kernel programs' own messages from this level on [default: off].
    #[arg(long, value_name = "LEVEL", value_enum)]
    kernel_log: Option<KernelLog>,
}

impl Run {
    pub fn execute(self) -> anyhow::Result<()> {
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let file = self.config.clone();
        let options = self.options(&config.agent)?;
        super::log_to_stderr(options.kernel_log);
        let agent = config.agent.clone();
        let state = self.state.clone().unwrap_or_else(|| (&agent.state).into());
        let endpoints = match (self.listen.is_empty(), agent.listen.is_empty()) {
            (false, _) => self.listen.clone(),
            (true, false) => agent.listen.clone(),
            (true, true) => vec![Endpoint::default()],
        };
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(serve(
                config,
                file,
                options,
                &state,
                endpoints,
                self.metrics.or(agent.metrics),
                self.exec_checks || agent.exec_checks,
            ))
    }

    fn options(&self, agent: &AgentSettings) -> anyhow::Result<Options> {
        let interfaces = if self.iface.is_empty() {
            agent.interfaces.clone()
        } else {
            self.iface.clone()
        };
        if interfaces.is_empty() {
            let usage = super::Arguments::command().error(
                ErrorKind::MissingRequiredArgument,
                "no interface to attach to; give --iface IFACE, or `interfaces` in the configuration file",
            );
            return Err(usage.into());
        }
        Ok(Options {
            interfaces,
            pins: self.pins.clone().unwrap_or_else(|| (&agent.pins).into()),
            xdp_mode: self.xdp_mode.unwrap_or(agent.xdp_mode),
            flow_entries: agent.flow_entries,
            ring_seed: agent.ring_seed,
            source_v4: agent.outer_source_v4,
            source_v6: agent.outer_source_v6,
            kernel_log: self.kernel_log.unwrap_or(agent.kernel_log).level(),
        })
    }
}

/// Serves metrics until the agent ends. Without a listener this only waits for that end.
async fn serve_metrics(
    listener: Option<TcpListener>,
    exporter: Exporter,
    mut stopping: watch::Receiver<bool>,
) {
    match listener {
        Some(listener) => lb_serve::http::serve(incoming(listener), exporter, stopping).await,
        None => stopped(&mut stopping).await,
    }
}

/// Reads the configuration file again, and tells the service manager when that is done.
async fn reload(reloader: &Reloader) {
    // There may be no service manager, or it may have gone.
    let now = NotifyState::monotonic_usec_now().ok();
    let _ = sd_notify::notify(&[&[NotifyState::Reloading], now.as_slice()].concat());
    if let Err(error) = reloader.reload(false, Arc::from("SIGHUP")).await {
        tracing::error!("SIGHUP: {error}");
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Runs until a signal comes.
async fn serve(
    config: Config,
    file: Option<PathBuf>,
    options: Options,
    state: &Path,
    endpoints: Vec<Endpoint>,
    metrics: Option<SocketAddr>,
    exec_checks: bool,
) -> anyhow::Result<()> {
    // Signals first: one that comes while the tables are restored ends the agent cleanly, too.
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;

    // The store and the sockets tell whether another agent runs, before anything in the kernel is touched.
    let state = State::open(state)?;
    let mut running_programs = control::running_programs(&state.intent.load()?);
    running_programs.extend(control::running_programs(&config.intent));
    if !exec_checks && let [vip, ..] = running_programs[..] {
        bail!(
            "VIP {vip} has a check that runs a program, and such checks are off; start the agent with --exec-checks, \
             or with `exec_checks = true` in its configuration file (packets flow on meanwhile)"
        );
    }
    let mut listeners = Vec::new();
    for endpoint in endpoints {
        listeners.push(Listener::bind(endpoint).await?);
    }
    let metrics = match metrics {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address} for metrics"))?,
        ),
        None => None,
    };
    let ring_seed = options.ring_seed;
    let (next_hops, mut next_hops_changed) =
        NextHops::start().context("listening to the kernel's routes and neighbours (rtnetlink)")?;
    let dataplane = Box::new(KernelDataplane::start(&options, Box::new(next_hops))?);
    let changed = Arc::new(Changed::default());
    let (owner, thread) = control::start(
        state,
        dataplane,
        control::Options {
            ring_seed,
            exec_checks,
            file: file.is_some().then_some(config.intent),
            changed: Arc::clone(&changed),
        },
    )?;
    let (handle, mut supervisor) = supervisor::start(owner.clone(), changed);

    let (stop, stopping) = watch::channel(false);
    let mut ready: Vec<String> = listeners
        .iter()
        .map(|listener| listener.endpoint().to_string())
        .collect();
    if let Some(listener) = &metrics {
        ready.push(format!("http://{}/metrics", listener.local_addr()?));
    }
    let reloader = Arc::new(Reloader::new(file, config.agent, owner.clone()));
    let exporter = Exporter::new(owner.clone(), handle.clone());
    let mut exporter = tokio::spawn(serve_metrics(metrics, exporter, stopping.clone()));
    let mut server = tokio::spawn(api::serve(
        Api::new(
            owner.clone(),
            handle,
            Arc::clone(&reloader),
            stopping.clone(),
        ),
        listeners,
        stopping,
    ));

    println!("lb-agent: ready on {}", ready.join(", "));
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("telling the service manager that the agent is ready: {error}");
    }

    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => owner.tick(),
            // Changes that come while the owner is at work are one.
            Ok(()) = next_hops_changed.changed() => owner.refresh_next_hops().await,
            _ = hang_up.recv() => reload(&reloader).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut supervisor => {
                ended.context("the supervisor failed")?;
                bail!("the supervisor ended by itself, so that reals are no longer checked; packets flow on, start the agent again");
            }
            ended = &mut exporter => {
                ended.context("the task that serves metrics failed")?;
                bail!("the server of metrics ended by itself; packets flow on, start the agent again");
            }
            ended = &mut server => {
                ended.context("the API's task failed")??;
                bail!("the API ended by itself; packets flow on, start the agent again");
            }
        }
    }
    tracing::info!("stopping; packets flow on until `lb-agent detach`");
    // There may be no service manager, or it may have gone.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    server.await.context("the API's task failed")??;
    exporter
        .await
        .context("the task that serves metrics failed")?;
    supervisor.abort();
    owner.stop().await;
    if thread.join().is_err() {
        bail!("the thread that owns the tables failed; packets flow on, the log says why");
    }
    Ok(())
}
