//! `lb-proxy run`.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use clap::CommandFactory as _;
use lb_clients::peer::http_endpoint::HttpAddress;
use lb_proxy::{
    admin::{Admin, Work},
    config::{self, Config, PoolStream, environment},
    listen::handover::{self, Sockets},
    members::{Endpoint, Members},
    server::Server,
    trouble,
};
use lb_serve::{
    ListenError, Socket, UnixSocket,
    vital::{End, Vital},
    watchdog::{Watchdog, beat},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

/// How often instances are looked after.
const TICK: Duration = Duration::from_secs(1);

/// How often the end of open connections is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// The mode of the administration's Unix socket: this user and root may connect.
const ADMIN_MODE: u32 = 0o600;

// The proxy's vital parts: see `lb_serve::vital`. Each source of instances is followed again if that panics.
const WORKER: &str = "a thread that serves clients";
const LOG: &str = "the writer of the access log";
const HANDOVER: &str = "the thread that hands listening sockets over";
const ADMIN: &str = "the server of the administration";
const RUNTIME: &str = "the runtime, which follows the sources of instances,";
const CONTROL: &str = "the thread that looks after instances and the configuration";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Configuration file; what is given here counts more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The API of lb-agent, for services whose instances are the reals of a VIP: unix:PATH or http://HOST:PORT.
    #[arg(long, value_name = "URI", conflicts_with = "pool")]
    agent: Option<Endpoint>,
    /// WebSocket of a pool, for services that name no source of instances.
    #[arg(long, value_name = "ws://HOST:PORT/PATH|ws+unix:SOCKET:/PATH")]
    pool: Option<PoolStream>,
    /// Serve metrics, health and administration here, for example 127.0.0.1:9470 or unix:/run/lb-proxy/admin.sock [default:
    /// nowhere]. Neither encrypted nor authenticated: who can connect can read them, purge caches and change services. Only
    /// the proxy's own user and root can connect to a Unix socket.
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH")]
    admin: Option<HttpAddress>,
}

impl Run {
    pub fn execute(self) -> anyhow::Result<()> {
        raise_limit();
        let (config, sum) = self.read()?;
        let threads = match config.proxy.threads.0 {
            Some(threads) => threads as usize,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let served = runtime.block_on(self.serve(config, sum, threads));
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }

    /// The configuration: of the file, with its CRC-32, or of the environment.
    fn read(&self) -> anyhow::Result<(Config, Option<u32>)> {
        let (mut config, sum) = match &self.config {
            Some(path) => {
                let (config, sum) = Config::read_with_sum(path)?;
                (config, Some(sum))
            }
            None => {
                let variable = |name| std::env::var(name).ok();
                match environment::config(variable, self.pool.as_ref())? {
                    Some(config) => (config, None),
                    None => {
                        let usage = super::Arguments::command().error(
                            clap::error::ErrorKind::MissingRequiredArgument,
                            format!(
                                "nothing to serve; give --config FILE, or set {} and {}",
                                environment::HTTP,
                                environment::WEB_SOCKET
                            ),
                        );
                        return Err(usage.into());
                    }
                }
            }
        };
        config.proxy.admin = self.admin.clone().or(config.proxy.admin);
        for service in config.services.values_mut() {
            let settings = &mut service.settings;
            let has_source = !service.members.is_empty()
                || settings.members_file.is_some()
                || settings.vip.is_some()
                || settings.pool.is_some();
            // One with a check has members of its own, although there are none now.
            if !has_source && settings.check.is_none() {
                settings.pool.clone_from(&self.pool);
            }
        }
        Ok((config, sum))
    }

    fn endpoint(&self, config: &Config) -> anyhow::Result<Option<Endpoint>> {
        if self.agent.is_some() {
            return Ok(self.agent.clone());
        }
        let text = config.proxy.agent.as_deref();
        let endpoint = text.map(str::parse).transpose();
        let endpoint: Option<Endpoint> =
            endpoint.map_err(|error: String| anyhow::anyhow!("agent: {error}"))?;
        let vip = config
            .services
            .values()
            .find(|service| service.settings.vip.is_some());
        if let (None, Some(service)) = (&endpoint, vip) {
            bail!(
                "the instances of service {} are the reals of a VIP; give --agent URI, or `agent` in the file",
                service.settings.name
            );
        }
        Ok(endpoint)
    }

    /// Changes the configuration file as a caller orders, and follows it.
    fn change(
        &self,
        edit: &config::Edit,
        server: &Server,
        members: &Members,
    ) -> Result<(), String> {
        let Some(path) = &self.config else {
            return Err(
                "the proxy was started without --config: there is no file to change".to_owned(),
            );
        };
        let text = config::edit(path, edit).map_err(|error| lb_serve::message(&error))?;
        tracing::info!("{} was changed by the administration", path.display());
        if let Err(why) = self.reload(server, members) {
            config::replace(path, &text).map_err(|error| {
                format!("{why}; and the file as it was cannot be written again: {error}")
            })?;
            // It was followed before.
            let _ = self.reload(server, members);
            return Err(why);
        }
        Ok(())
    }

    /// Reads the configuration again; what is wrong changes nothing, and is returned.
    fn reload(&self, server: &Server, members: &Members) -> Result<(), String> {
        let now = NotifyState::monotonic_usec_now().ok();
        let _ = sd_notify::notify(&[&[NotifyState::Reloading], now.as_slice()].concat());
        let followed = (|| {
            let (config, sum) = self.read()?;
            let endpoint = self.endpoint(&config)?;
            server.reload(config)?;
            members.follow(server.shared(), endpoint.as_ref());
            // Last: who sees it sees what it brought.
            server.shared().note_sum(sum);
            anyhow::Ok(())
        })();
        let followed = followed.map_err(|error| lb_serve::message(error.as_ref()));
        match &followed {
            Ok(()) => {
                server.shared().note_reload(Ok(()));
                tracing::info!("configuration and certificates were read again");
                let names = server.shared().at_next_start();
                if !names.is_empty() {
                    tracing::warn!(
                        "settings have changed that count when the proxy starts again: {}",
                        names.join(", ")
                    );
                }
            }
            Err(why) => {
                server.shared().note_reload(Err(why));
                tracing::error!("reading the configuration again: {why}; nothing was changed");
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        followed
    }

    async fn serve(self, config: Config, sum: Option<u32>, threads: usize) -> anyhow::Result<()> {
        // Signals first: one that comes meanwhile ends the proxy cleanly, too.
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        let mut hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
        let endpoint = self.endpoint(&config)?;
        let handover = config.proxy.handover.clone();
        let (inherited, previous) = match &handover {
            Some(path) => match handover::receive(path)
                .with_context(|| format!("taking over from the proxy at {}", path.display()))?
            {
                Some((sockets, previous)) => (sockets, Some(previous)),
                None => (Sockets::new(), None),
            },
            None => (Sockets::new(), None),
        };
        let admin = config.proxy.admin.clone();
        let limit = config.proxy.watchdog;
        let server = Server::start(config, threads, inherited)?;
        trouble::count_panics(server.shared());
        let mut vital = Vital::new();
        for thread in server.threads() {
            vital.thread(WORKER, thread).context("starting a thread")?;
        }
        if let Some(thread) = server.shared().log.thread() {
            vital.thread(LOG, thread).context("starting a thread")?;
        }
        let members = Members::default();
        members.follow(server.shared(), endpoint.as_ref());
        server.shared().note_sum(sum);

        let (replaced, mut replacement) = mpsc::unbounded_channel();
        let socket = match &handover {
            Some(path) => {
                let tell = move || {
                    // The receiver lives as long as the proxy.
                    let _ = replaced.send(());
                };
                let served = handover::serve(path, server.held(), tell);
                let (socket, thread) =
                    served.with_context(|| format!("listening on {}", path.display()))?;
                vital
                    .thread(HANDOVER, thread)
                    .context("starting a thread")?;
                Some(socket)
            }
            None => None,
        };
        // The proxy before accepts until now; it closes its administration's address when it drains.
        if let Some(previous) = previous
            && let Err(error) = previous.end()
        {
            tracing::warn!("the proxy before does not hear that this one is ready: {error}");
        }
        let (stop, stopping) = watch::channel(false);
        let mut ready: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
        let has_admin = admin.is_some();
        let (orders, mut ordered) = mpsc::channel(1);
        if let Some(address) = &admin {
            let site = Admin::new(Arc::clone(server.shared()), orders);
            let (bound, socket) = bind_admin(address).await?;
            ready.push(bound);
            match socket {
                Socket::Tcp(socket) => {
                    let incoming = lb_serve::incoming(socket);
                    vital.spawn(ADMIN, lb_serve::http::serve(incoming, site, stopping));
                }
                Socket::Unix(socket) => {
                    let incoming = lb_serve::incoming(socket);
                    vital.spawn(ADMIN, lb_serve::http::serve(incoming, site, stopping));
                }
            }
        }
        let (control, runtime) = (Arc::default(), Arc::default());
        let watchdog = Watchdog::new("lb-proxy", limit)
            // These beat by themselves; the second one by timers of the first.
            .watch(RUNTIME, Arc::clone(&runtime), || {})
            .watch(CONTROL, Arc::clone(&control), || {});
        let watchdog = server.pulses().fold(watchdog, |watchdog, pulse| {
            watchdog.watch(WORKER, pulse, || {})
        });
        watchdog.start(&vital).context("starting a thread")?;
        vital.spawn(RUNTIME, beat(runtime));
        println!("lb-proxy: ready on {}", ready.join(", "));
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!("telling the service manager that the proxy is ready: {error}");
        }

        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        let is_replaced = loop {
            tokio::select! {
                biased;
                _ = terminate.recv() => break false,
                _ = interrupt.recv() => break false,
                // Before the end of the thread that hands over.
                Some(()) = replacement.recv() => break true,
                end = vital.next_end() => return Err(ended(end)),
                _ = hang_up.recv() => {
                    let _work = control.work();
                    // It is logged, and shown until it is over.
                    let _ = self.reload(&server, &members);
                }
                Some(order) = ordered.recv() => {
                    let _work = control.work();
                    let done = match &order.work {
                        Work::Change(edit) => self.change(edit, &server, &members),
                        Work::Reload => self.reload(&server, &members),
                    };
                    // The caller may be gone.
                    let _ = order.answer.send(done);
                }
                _ = ticks.tick() => {
                    let _work = control.work();
                    upkeep(&server, &mut swept);
                }
            }
        };
        // Who waits for a change hears that there will be none.
        drop(ordered);
        let why = if is_replaced {
            "the next proxy is ready"
        } else {
            "stopping"
        };
        tracing::info!("{why}; open requests are answered");
        if !is_replaced {
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
        }
        // The next proxy wants the administration's address; without one it says until the end that this one drains.
        if is_replaced {
            let _ = stop.send(true);
        }
        drop(socket);
        let drain = server.shared().running.load().config.proxy.drain;
        server.begin_drain();
        let start = Instant::now();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while server.open() > 0 && start.elapsed() < drain {
            tokio::select! {
                _ = looks.tick() => drop(control.work()),
                end = vital.next_end() => {
                    // These have ended because the next proxy is there.
                    if !is_replaced || ![HANDOVER, ADMIN].contains(&end.part) {
                        return Err(ended(end));
                    }
                }
            }
        }
        let left = server.open();
        let _ = stop.send(true);
        if has_admin {
            vital.finish(ADMIN).await?;
        }
        if left > 0 {
            tracing::warn!("{left} connections were open after {drain:?} and are closed");
        }
        Ok(())
    }
}

/// A vital part has ended: so does the proxy, and says why.
fn ended(end: End) -> anyhow::Error {
    let status = format!("{end}; the proxy ends");
    // There may be no service manager.
    let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
    end.into_error().context("the proxy ends; start it again")
}

/// Listens for the administration, and says where. The proxy before may still serve this address for a moment.
async fn bind_admin(address: &HttpAddress) -> anyhow::Result<(String, Socket)> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let start = Instant::now();
    loop {
        let (bound, is_taken) = match address {
            HttpAddress::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                let is_taken = |error: &std::io::Error| error.kind() == ErrorKind::AddrInUse;
                let is_taken = bound.as_ref().is_err_and(is_taken);
                let place = |socket: &TcpListener| {
                    let address = socket.local_addr()?;
                    anyhow::Ok(format!("http://{address}/metrics"))
                };
                let bound = bound.map_err(anyhow::Error::from);
                let bound = bound.and_then(|socket| Ok((place(&socket)?, Socket::Tcp(socket))));
                (bound, is_taken)
            }
            HttpAddress::Unix(path) => {
                let bound = UnixSocket::bind(path, ADMIN_MODE);
                let is_taken = matches!(&bound, Err(ListenError::InUse(_)));
                let bound = bound.map_err(|error| match error {
                    ListenError::InUse(_) => anyhow!("a running process serves it; stop that one"),
                    ListenError::NoSocket(_) => {
                        anyhow!("there is a file that is no socket; move it away")
                    }
                    ListenError::System {
                        operation, source, ..
                    } => anyhow!("{operation}: {source}"),
                });
                let bound = bound.map(|socket| (address.to_string(), Socket::Unix(socket)));
                (bound, is_taken)
            }
        };
        if is_taken && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        return bound
            .with_context(|| format!("listening on {address} for the administration (`admin`)"));
    }
}

fn upkeep(server: &Server, swept: &mut Instant) {
    let running = server.shared().running.load_full();
    let elapsed = swept.elapsed();
    let mut is_swept = false;
    for service in running.services.values() {
        service.upkeep();
        service.end_second();
        if let Some(cache) = service.cache.load_full()
            && elapsed >= cache.sweep_interval()
        {
            cache.sweep();
            is_swept = true;
        }
    }
    if is_swept {
        *swept = Instant::now();
    }
}

/// Each client takes two file descriptors: as many as the system allows.
fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("raising the limit of open files from {soft} to {hard}: {error}");
    }
}
