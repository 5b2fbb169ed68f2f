//! `lb-controller run`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use lb_clients::health::runner;
use lb_commands::queue::Limits;
use lb_controller::{
    access::{Access, AccessTls, Anonymous, Directory},
    agents::{self, Agents},
    api::{self, Api},
    config::{Config, ControllerSettings, check_name},
    controller::{Controller, Ground},
    environments::{Environments, Executor},
    events::Events,
    history::History,
    hosts::{self, HostRecord, HostSettings, Hosts, TokenRecord},
    http,
    hub::Hub,
    keeper::{Keeper, KeeperError, Opened, Place},
    orphans::Orphans,
    pool::StoredPool,
    projects::{Means, Names, Projects, StoredNames},
    pulses::Pulses,
    queue::{Commands, QUEUE, StoredOrders},
    registry::{Making, Registry},
};
use lb_drivers::Owned;
use lb_hosts::authority::Authority;
use lb_model::{
    pool::{PoolName, PoolSpec},
    settings::Settings as _,
};
use lb_serve::{
    Endpoint, ListenError, Listener,
    tls::Tls,
    vital::Vital,
    watchdog::{Watchdog, beat},
};
use lb_store::StoreError;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::MissedTickBehavior,
};

/// How long what a killed controller had open may stay so, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);
/// How long what still runs may take to end when the controller does.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// How often it is tried again to follow the configuration file while that is refused in part.
const AGAIN_FILE: Duration = Duration::from_secs(10);

// The controller's vital parts: see `lb_serve::vital`. Others are named where they are registered.
const STORE: &str = "the thread that writes the store";
const STORE_CHECK: &str = "the task that looks after the store";
const API: &str = "the API's server";
const HTTPS: &str = "the server of HTTP by TLS";
const HISTORY: &str = "the task that writes the history of load";
const AUDIT: &str = "the thread of the audit log";
const AUDIT_CHECK: &str = "the task that looks after the audit log";
const HTTP: &str = "the server of HTTP and WebSockets";
const NODE_STREAMS: &str = "the server of pools for nodes of load balancers";
const RUNTIME: &str = "the runtime, which runs all tasks,";
const POOLS: &str = "the task of a pool";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Configuration file; what is given here counts more.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The controller's name: instances and reals belong to it. Several controllers on one machine have different names
    /// [default: main].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder of the database and of the drivers [default: /var/lib/lb-controller].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where pools and instances are stored: redb, a file in the folder; or redis:URL [default: redb].
    #[arg(
        long,
        value_name = "redb|redis:URL",
        env = "LB_STORE",
        hide_env_values = true
    )]
    store: Option<Place>,
    /// Where the API listens: unix:PATH or http://ADDRESS:PORT on loopback; give it again for more
    /// [default: unix:/run/lb-controller/api.sock].
    #[arg(long, value_name = "URI", num_args = 1..)]
    listen: Vec<Endpoint>,
    /// Serve HTTP/JSON, WebSockets and metrics at this address, for example 127.0.0.1:8080 [default: nowhere]. Not encrypted; see
    /// access.tls in the configuration file.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Origin of web pages that may use HTTP/JSON, for example https://ops.example, or * for any; give it again for more
    #[arg(long, value_name = "ORIGIN", num_args = 1..)]
    http_origin: Vec<String>,
    /// An agent whose VIPs the instances serve; give it again for more
    #[arg(long, value_name = "URI", num_args = 1..)]
    agent: Vec<agents::Endpoint>,
    /// The program that makes instances reals [default: lb-agent beside this program]
    #[arg(long, value_name = "FILE")]
    agent_program: Option<PathBuf>,
    /// Remove reals and instances of this controller's name that its store knows nothing of, although the store is empty: it
    /// was lost
    #[arg(long)]
    take_over: bool,
    /// What callers of this machine may do who do not say who they are: none, read, operate or admin [default: read]
    #[arg(long, value_name = "ROLE")]
    anonymous: Option<Anonymous>,
    /// What callers from elsewhere may do who do not say who they are [default: none]
    #[arg(long, value_name = "ROLE")]
    anonymous_remote: Option<Anonymous>,
    /// Let pools have the driver `exec`: whoever may call the API then runs programs as the controller's user
    #[arg(long)]
    exec_drivers: bool,
}

/// Tries until there is a result, but not for long: a controller that was killed while it started an instance leaves a child
/// that has its files open until its program begins.
async fn patiently<T>(
    mut attempt: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let result = attempt().await?;
        if result.is_some() || tokio::time::Instant::now() > end {
            return Ok(result);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A program that the settings name, or the one beside this program.
fn beside(given: Option<&PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    let own = std::env::current_exe().context("looking for the own program")?;
    Ok(own.with_file_name(name))
}

/// Where hosts connect.
struct Door {
    listener: TcpListener,
    authority: Arc<Authority>,
}

impl Door {
    /// Listens for hosts, if there are to be any.
    async fn bind(
        settings: Option<&HostSettings>,
        state: &std::path::Path,
    ) -> anyhow::Result<Option<Self>> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("hosts.listen: listening on {}", settings.listen))?;
        Ok(Some(Door {
            listener,
            authority: Arc::new(Authority::open(&state.join("hosts"))?),
        }))
    }

    fn certificate(&self) -> Vec<u8> {
        self.authority.certificate().to_vec()
    }
}

/// The pools of the file.
type Pools = BTreeMap<PoolName, PoolSpec>;

/// The settings of the file that the controller started with.
struct Running(ControllerSettings);

impl Running {
    /// The settings that are others now, and count when the controller starts again.
    fn later(&self, now: &ControllerSettings, overridden: &[&str]) -> Vec<String> {
        let (before, now) = (self.0.to_map(), now.to_map());
        let names = before
            .keys()
            .chain(now.keys().filter(|name| !before.contains_key(*name)));
        names
            .filter(|name| before.get(*name) != now.get(*name))
            .filter(|name| !overridden.contains(&name.as_str()))
            .cloned()
            .collect()
    }
}

/// A listener, and its TLS.
type SecuredListener = (TcpListener, Tls);

/// What is served by TLS.
#[derive(Default)]
struct Secured {
    http: Option<SecuredListener>,
    api: Option<SecuredListener>,
}

impl Secured {
    async fn bind(settings: Option<&AccessTls>) -> anyhow::Result<Self> {
        let Some(settings) = settings else {
            return Ok(Secured::default());
        };
        let bind = async |address: Option<SocketAddr>, protocol: &'static str| {
            let Some(address) = address else {
                return Ok(None);
            };
            let tls = Tls::new(settings.files(), &[protocol]).context("access.tls")?;
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("listening on {address} by TLS"))?;
            anyhow::Ok(Some((listener, tls)))
        };
        Ok(Secured {
            http: bind(settings.http, "http/1.1").await?,
            api: bind(settings.api, "h2").await?,
        })
    }
}

/// What the file and the command line say.
struct Resolved {
    settings: ControllerSettings,
    store: Place,
    agents: Vec<agents::Endpoint>,
}

impl Run {
    /// The settings: those of the command line count more than those of the file.
    fn resolve(&self, mut settings: ControllerSettings) -> anyhow::Result<Resolved> {
        if let Some(name) = &self.name {
            check_name(name).map_err(|advice| anyhow::anyhow!("--name={name:?}: {advice}"))?;
            settings.name.clone_from(name);
        }
        if let Some(state) = &self.state {
            settings.state.clone_from(state);
        }
        if !self.listen.is_empty() {
            settings.listen.clone_from(&self.listen);
        }
        if !self.http_origin.is_empty() {
            settings.http_origins.clone_from(&self.http_origin);
        }
        settings.http = self.http.or(settings.http);
        if let Some(anonymous) = self.anonymous {
            settings.access.anonymous = anonymous;
        }
        if let Some(anonymous) = self.anonymous_remote {
            settings.access.anonymous_remote = anonymous;
        }
        settings.exec_drivers |= self.exec_drivers;
        if let Some(program) = &self.agent_program {
            settings.agent_program = Some(program.clone());
        }
        let store = match &self.store {
            Some(store) => store.clone(),
            None => settings.store.parse()?,
        };
        let agents = if self.agent.is_empty() {
            let parsed = settings.agents.iter().map(|text| text.parse());
            let parsed: Result<_, String> = parsed.collect();
            parsed.map_err(anyhow::Error::msg).context("agents")?
        } else {
            self.agent.clone()
        };
        Ok(Resolved {
            settings,
            store,
            agents,
        })
    }

    fn read(&self) -> anyhow::Result<Config> {
        Ok(match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        })
    }

    /// Reads the configuration file again. What concerns the controller as a whole takes a restart. A file that cannot be
    /// followed is a warning until one is.
    ///
    /// Returns the file's pools, if it could be read.
    async fn reload(&self, controller: &Controller, running: &Running) -> Option<Pools> {
        let Some(path) = &self.config else {
            tracing::info!("there is no configuration file to read again; see --config");
            return None;
        };
        let config = Config::read(path).map_err(anyhow::Error::from);
        let resolved = config.and_then(|config| {
            let file = config.settings.clone();
            // The command line may not fit to it any more.
            self.resolve(config.settings)?;
            Ok((file, config.pools))
        });
        let (settings, pools) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                let text = format!("{error:#}; the configuration file is not followed");
                tracing::error!("{text}, and the controller goes on as it is");
                controller.set_warning("file", Some(text));
                return None;
            }
        };
        controller.set_warning("file", None);
        let later = running.later(&settings, &self.overridden());
        let text = (!later.is_empty()).then(|| {
            let names = later.join(", ");
            format!(
                "settings of {} count when the controller starts again: {names}",
                path.display()
            )
        });
        if let Some(text) = &text {
            tracing::warn!("{text}");
        }
        controller.set_warning("file later", text);
        tracing::info!("{} was read again", path.display());
        Some(pools)
    }

    /// Settings of the file that do not count, since the command line gives them.
    fn overridden(&self) -> Vec<&'static str> {
        [
            ("name", self.name.is_some()),
            ("state", self.state.is_some()),
            ("store", self.store.is_some()),
            ("listen", !self.listen.is_empty()),
            ("http", self.http.is_some()),
            ("http_origins", !self.http_origin.is_empty()),
            ("agents", !self.agent.is_empty()),
            ("agent_program", self.agent_program.is_some()),
            ("exec_drivers", self.exec_drivers),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    pub fn execute(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let served = runtime.block_on(self.serve());
        // A driver's call that hangs must not keep the process.
        runtime.shutdown_timeout(SHUTDOWN);
        served
    }

    async fn serve(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        let mut hang_up = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
        let Config { settings, pools } = self.read()?;
        let running = Running(settings.clone());
        let Resolved {
            settings,
            store,
            agents,
        } = self.resolve(settings)?;
        let agent = beside(settings.agent_program.as_ref(), "lb-agent")?;
        std::fs::create_dir_all(&settings.state)
            .with_context(|| format!("making {}", settings.state.display()))?;
        let mut listeners = Vec::new();
        for endpoint in &settings.listen {
            listeners.push(
                patiently(async || match Listener::bind(endpoint.clone()).await {
                    Err(ListenError::InUse(_)) => Ok(None),
                    other => Ok(Some(other?)),
                })
                .await?
                .map_or_else(
                    || bail!("a running controller serves {endpoint}; stop it, or give this one another --listen"),
                    Ok,
                )?,
            );
        }
        let http = match settings.http {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("listening on {address} for HTTP"))?,
            ),
            None => None,
        };
        let secured = Secured::bind(settings.access.tls.as_ref()).await?;
        let opened =
            patiently(
                async || match Keeper::open(&store, &settings.state, &settings.name) {
                    Err(KeeperError::Store(StoreError::InUse { .. })) => Ok(None),
                    other => Ok(Some(other?)),
                },
            )
            .await?;
        let Some(Opened {
            keeper,
            stored,
            thread,
        }) = opened
        else {
            bail!(
                "another controller uses {}; stop it, or give this one another --state",
                settings.state.display()
            );
        };
        let mut vital = Vital::new();
        let parts = vital.registrar();
        vital.thread(STORE, thread).context("starting a thread")?;
        let owned = Owned {
            owner: settings.name.clone(),
            state: settings.state.clone(),
            agent,
            allow_exec: settings.exec_drivers,
            receive_at: None,
        };
        let hub = Hub::new(owned, parts.clone());
        // One that has lost its store, or has another's name, must not remove what it finds.
        let stored_pools = StoredPool::read(&stored)?;
        let registry = Registry::read(&stored)?;
        let stored_hosts = stored.all::<HostRecord>()?;
        let tokens = stored.all::<TokenRecord>()?;
        let is_new = stored_pools.is_empty()
            && registry.is_empty()
            && stored_hosts.is_empty()
            && !self.take_over;
        if is_new {
            agents::refuse_strangers(&agents, &settings.name)
                .await
                .map_err(anyhow::Error::msg)?;
        }
        let pools_before = stored_pools.iter().map(|pool| pool.name.clone()).collect();
        let shared_before = registry.shared().collect();
        let agents = Agents::start(
            agents,
            &settings.name,
            is_new,
            pools_before,
            shared_before,
            &parts,
        );
        let (access, thread) = Access::start(
            settings.access.clone(),
            &settings.state,
            &stored,
            keeper.clone(),
        )?;
        vital.thread(AUDIT, thread).context("starting a thread")?;
        let probes = runner::slots().context("reading the limit of files")?;
        vital.spawn(STORE_CHECK, keeper.clone().watch());
        let events = Events::default();
        let door = Door::bind(settings.hosts.as_ref(), &settings.state).await?;
        let hosts = Hosts::new(
            hosts::Means {
                settings: settings.hosts.clone(),
                owner: settings.name.clone(),
                authority: door.as_ref().map(Door::certificate).unwrap_or_default(),
                keeper: keeper.clone(),
                events: events.clone(),
                parts: parts.clone(),
            },
            stored_hosts.into_iter().map(|(_, record)| record).collect(),
            tokens.into_iter().collect(),
        );
        let ground = Ground {
            hub,
            hosts: hosts.clone(),
            keeper: keeper.clone(),
            agents,
            events,
            probes,
            orphans: Orphans::new(settings.collector.clone()),
        };
        let controller = Controller::start(ground, stored_pools, is_new, parts.clone())?;
        vital.spawn(
            hosts::watch::WATCH,
            hosts::watch::keep(hosts.clone(), controller.clone()),
        );
        let means = Means {
            owner: settings.name.clone(),
            program: beside(
                settings
                    .nodes
                    .as_ref()
                    .and_then(|nodes| nodes.program.as_ref()),
                "lb-proxy",
            )?,
            making: Making {
                nodes: settings.nodes.clone(),
                shared: settings.shared.clone(),
            },
            state: settings.state.clone(),
        };
        let (stop, stopping) = watch::channel(false);
        let names = match &settings.dns {
            Some(spec) => Some(Names::start(
                spec.clone(),
                StoredNames::read(&stored)?,
                &controller,
                keeper.clone(),
                &parts,
                stopping.clone(),
            )?),
            None => None,
        };
        let prepared = Commands::prepare(
            keeper.clone(),
            Limits::default(),
            StoredOrders::read(&stored)?,
        );
        let projects = Projects::start(means, controller.clone(), keeper, registry, names, &parts);
        let history = History::open(
            &settings.state,
            settings.history_disk.0,
            controller.recorder().clone(),
        )
        .context("opening the history of load")?;
        vital.spawn(HISTORY, history.clone().run(controller.clone()));
        vital.spawn(AUDIT_CHECK, access.clone().watch(controller.clone()));
        let commands = prepared.commands();
        let allow_exec = settings.exec_drivers;
        let executor = Executor::new(controller.clone(), projects.clone(), allow_exec);
        let environments = Environments::start(
            commands.clone(),
            controller.clone(),
            projects.clone(),
            allow_exec,
            &parts,
        );
        // Commands are checked against the quotas in which the environments that there are count.
        prepared.start(executor, &parts);
        let directory = Directory::new(
            access,
            controller.clone(),
            projects.clone(),
            environments.clone(),
        );
        watch(&vital, &controller, &commands, settings.watchdog)?;
        let mut file = self.config.is_some().then_some(pools);
        let mut is_followed = match &file {
            Some(pools) => controller.follow_file(pools.clone()).await,
            None => true,
        };
        let mut ready: Vec<String> = listeners
            .iter()
            .map(|listener| listener.endpoint().to_string())
            .collect();
        if let Some(door) = door {
            ready.push(format!("hosts at {}", door.listener.local_addr()?));
            let serving = lb_hosts::accept::serve(door.listener, door.authority, Arc::new(hosts));
            vital.spawn(hosts::DOOR, async move {
                serving.await.map_err(anyhow::Error::from)
            });
        }
        let has_http = http.is_some();
        let site = http::Site::new(
            controller.clone(),
            projects.clone(),
            environments.clone(),
            directory.clone(),
            history.clone(),
            settings.http_origins.clone(),
            stopping.clone(),
        );
        vital.spawn(NODE_STREAMS, http::serve_nodes(site.clone()));
        if let Some(listener) = http {
            ready.push(format!("http://{}", listener.local_addr()?));
            vital.spawn(HTTP, http::serve(site.clone(), listener, None));
        }
        let has_https = secured.http.is_some();
        if let Some((listener, tls)) = secured.http {
            ready.push(format!("https://{}", listener.local_addr()?));
            vital.spawn(HTTPS, http::serve(site, listener, Some(tls)));
        }
        if let Some((listener, _)) = &secured.api {
            ready.push(format!("https://{} (gRPC)", listener.local_addr()?));
        }
        vital.spawn(
            API,
            api::serve(
                Api::new(
                    controller.clone(),
                    projects,
                    environments,
                    directory,
                    history,
                    stopping.clone(),
                ),
                listeners,
                secured.api,
                stopping,
            ),
        );
        println!("lb-controller: ready on {}", ready.join(", "));
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!("telling the service manager that the controller is ready: {error}");
        }
        let mut again = tokio::time::interval(AGAIN_FILE);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    if let Some(pools) = self.reload(&controller, &running).await {
                        is_followed = controller.follow_file(pools.clone()).await;
                        file = Some(pools);
                    }
                }
                // What was refused may be taken now: the store is back, or what was in the way is gone.
                _ = again.tick(), if !is_followed => {
                    if let Some(pools) = &file {
                        is_followed = controller.follow_file(pools.clone()).await;
                    }
                }
                end = vital.next_end() => {
                    let status = format!("{end}; the controller ends, instances run on");
                    // There may be no service manager.
                    let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
                    return Err(end.into_error().context("the controller ends (instances run on; start it again)"));
                }
            }
        }
        tracing::info!("stopping; instances run on");
        // There may be no service manager, or it may have gone.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
        if has_http {
            vital.finish(HTTP).await?;
        }
        if has_https {
            vital.finish(HTTPS).await?;
        }
        vital.finish(API).await
    }
}

/// Watches the runtime and the pools' tasks: see `lb_serve::watchdog`.
fn watch(
    vital: &Vital,
    controller: &Controller,
    commands: &Commands,
    limit: Duration,
) -> anyhow::Result<()> {
    let runtime = Arc::default();
    // Looks are made once a second.
    let pulses = Pulses::new(u32::try_from(limit.as_secs() / 2).unwrap_or(u32::MAX));
    let pools = controller.clone();
    let watchdog = Watchdog::new("lb-controller", limit)
        // It beats by itself.
        .watch(RUNTIME, Arc::clone(&runtime), || {})
        // It looks around once a second.
        .watch_run(QUEUE, commands.pulse(), || {})
        .watch_run(POOLS, pulses.all(), move || {
            for pool in pulses.look(&pools.pulses()) {
                tracing::error!("the task of pool {pool} makes no progress");
            }
        });
    watchdog.start(vital).context("starting a thread")?;
    vital.spawn(RUNTIME, beat(runtime));
    Ok(())
}
