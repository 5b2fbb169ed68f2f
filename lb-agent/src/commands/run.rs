//! `lb-agent run`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
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
use lb_agent::reload::{ReloadError, Reloader};
use lb_agent::store::State;
use lb_agent::supervisor;
use lb_dataplane::netlink::{NextHops, links::watch_links};
use lb_dataplane::{
    KernelDataplane,
    options::{Claim, NatOptions, Options, XdpMode},
};
use lb_serve::{Endpoint, Listener, incoming, stopped};
use lb_serve::{
    vital::Vital,
    watchdog::{Watchdog, beat},
};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How long what still runs may take to end when the agent does.
const SHUTDOWN: Duration = Duration::from_secs(1);

// The agent's vital parts: see `lb_serve::vital`.
const OWNER: &str = "the thread that owns the kernel's tables and the database";
const SUPERVISOR: &str = "the supervisor, which checks reals and steers,";
const API: &str = "the API's server";
const METRICS: &str = "the server of metrics";
const NEXT_HOPS: &str = "the thread that follows routes and neighbours";
const LINKS: &str = "the thread that follows interfaces";
const RUNTIME: &str = "the runtime, which runs all tasks,";

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
    /// End if an interface is missing at the start, instead of waiting for it while the others serve.
    #[arg(long)]
    strict_interfaces: bool,
    /// Go on with the pinned tables although they hold VIPs that this agent's database does not have: those are removed.
    /// Without it the agent does not start then.
    #[arg(long)]
    take_over: bool,
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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let source = Source {
            config,
            file,
            overridden: self.overridden(),
        };
        let served = runtime.block_on(serve(
            source,
            options,
            &state,
            endpoints,
            self.metrics.or(agent.metrics),
            self.exec_checks || agent.exec_checks,
        ));
        // A look-up of a name that hangs must not keep a process alive that says why it ends.
        runtime.shutdown_timeout(SHUTDOWN);
        served
    }

    /// Settings of the file that do not count, since the command line gives them.
    fn overridden(&self) -> Vec<&'static str> {
        [
            ("interfaces", !self.iface.is_empty()),
            ("xdp_mode", self.xdp_mode.is_some()),
            ("listen", !self.listen.is_empty()),
            ("metrics", self.metrics.is_some()),
            ("state", self.state.is_some()),
            ("pins", self.pins.is_some()),
            ("exec_checks", self.exec_checks),
            ("kernel_log", self.kernel_log.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
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
            claim: Some(Claim {
                take_over: self.take_over,
                ..Claim::default()
            }),
            strict_interfaces: self.strict_interfaces,
            flow_entries: agent.flow_entries,
            ring_seed: agent.ring_seed,
            gue_port: agent.gue_port,
            tunnel_ends: agent.tunnel_ends.iter().copied().collect(),
            source_v4: agent.outer_source_v4,
            source_v6: agent.outer_source_v6,
            nat: NatOptions {
                source4: agent.nat_source_v4.iter().filter_map(v4).collect(),
                source6: agent.nat_source_v6.iter().filter_map(v6).collect(),
                ports: agent.nat_ports,
                connections: agent.nat_connections,
            },
            kernel_log: self.kernel_log.unwrap_or(agent.kernel_log).level(),
        })
    }
}

fn v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: &IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
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
    match reloader.reload(false, Arc::from("SIGHUP")).await {
        // It is said already.
        Ok(_) | Err(ReloadError::File(_)) => {}
        Err(error) => tracing::error!("SIGHUP: {error}"),
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The configuration, and where it comes from.
struct Source {
    config: Config,
    file: Option<PathBuf>,
    /// Settings of the file that do not count, since the command line gives them.
    overridden: Vec<&'static str>,
}

/// Runs until a signal comes.
async fn serve(
    source: Source,
    mut options: Options,
    state: &Path,
    endpoints: Vec<Endpoint>,
    metrics: Option<SocketAddr>,
    exec_checks: bool,
) -> anyhow::Result<()> {
    let Source {
        config,
        file,
        overridden,
    } = source;
    // Signals first: one that comes while the tables are restored ends the agent cleanly, too.
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;

    // The store and the sockets tell whether another agent runs, before anything in the kernel is touched.
    let state = State::open(state)?;
    let stored = state.intent.load()?;
    let mut running_programs = control::running_programs(&stored);
    running_programs.extend(control::running_programs(&config.intent));
    if !exec_checks && let [vip, ..] = running_programs[..] {
        bail!(
            "VIP {vip} has a check that runs a program, and such checks are off; start the agent with --exec-checks, \
             or with `exec_checks = true` in its configuration file (packets flow on meanwhile)"
        );
    }
    options.claim = Some(Claim {
        state: state.intent.identity(),
        is_empty: stored.is_empty(),
        vips: stored
            .vips()
            .map(|vip| vip.address)
            .chain(config.intent.vips().map(|vip| vip.address))
            .collect(),
        ..options.claim.unwrap_or_default()
    });
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
    let mut links_changed =
        watch_links().context("listening to the kernel's interfaces (rtnetlink)")?;
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
    let mut vital = Vital::new();
    vital.thread(OWNER, thread).context("starting a thread")?;
    let (handle, supervisor) = supervisor::start(owner.clone(), changed);
    let supervisor = vital.task(SUPERVISOR, supervisor);
    // The threads that listen to the kernel close their channel when they end.
    let control = owner.clone();
    vital.spawn(NEXT_HOPS, async move {
        while next_hops_changed.changed().await.is_ok() {
            // Changes that come while the owner is at work are one.
            control.refresh_next_hops().await;
        }
    });
    let control = owner.clone();
    vital.spawn(LINKS, async move {
        while links_changed.changed().await.is_ok() {
            control.check_links().await;
        }
    });

    let (stop, stopping) = watch::channel(false);
    let mut ready: Vec<String> = listeners
        .iter()
        .map(|listener| listener.endpoint().to_string())
        .collect();
    if let Some(listener) = &metrics {
        ready.push(format!("http://{}/metrics", listener.local_addr()?));
    }
    let runtime = Arc::default();
    let watchdog = Watchdog::new("lb-agent", config.agent.watchdog)
        .watch(OWNER, owner.pulse(), {
            let owner = owner.clone();
            move || owner.ping()
        })
        // It beats by itself.
        .watch(RUNTIME, Arc::clone(&runtime), || {})
        .watch_waiting(SUPERVISOR, handle.pulse(), {
            let supervisor = handle.clone();
            move || supervisor.ping()
        });
    watchdog.start(&vital).context("starting a thread")?;
    vital.spawn(RUNTIME, beat(runtime));
    let reloader = Reloader::new(file, config.agent, owner.clone());
    let reloader = Arc::new(reloader.with_overridden(overridden));
    let exporter = Exporter::new(owner.clone(), handle.clone());
    vital.spawn(METRICS, serve_metrics(metrics, exporter, stopping.clone()));
    vital.spawn(
        API,
        api::serve(
            Api::new(
                owner.clone(),
                handle,
                Arc::clone(&reloader),
                stopping.clone(),
            ),
            listeners,
            stopping,
        ),
    );

    println!("lb-agent: ready on {}", ready.join(", "));
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("telling the service manager that the agent is ready: {error}");
    }

    let time = owner.keep_time();
    tokio::pin!(time);
    loop {
        tokio::select! {
            never = &mut time => match never {},
            _ = hang_up.recv() => reload(&reloader).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            end = vital.next_end() => {
                let status = format!("{end}; the agent ends, packets flow on");
                // There may be no service manager.
                let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
                return Err(end.into_error().context("the agent ends (packets flow on; start it again)"));
            }
        }
    }
    tracing::info!("stopping; packets flow on until `lb-agent detach`");
    // There may be no service manager, or it may have gone.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    vital.finish(API).await?;
    vital.finish(METRICS).await?;
    supervisor.abort();
    owner.stop().await;
    vital.finish(OWNER).await
}
