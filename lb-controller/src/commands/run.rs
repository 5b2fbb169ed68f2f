//! `lb-controller run`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use lb_clients::health::runner;
use lb_controller::{
    agents::{self, Agents},
    api::{self, Api},
    config::{Config, ControllerSettings, check_name},
    controller::Controller,
    http,
    hub::Hub,
    keeper::{Keeper, KeeperError, Place},
};
use lb_drivers::Owned;
use lb_serve::{Endpoint, ListenError, Listener};
use lb_store::StoreError;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How often the store is looked after.
const CHECK: Duration = Duration::from_secs(5);
/// How often the pools' tasks are looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long what a killed controller had open may stay so, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);
/// How long what still runs may take to end when the controller does.
const SHUTDOWN: Duration = Duration::from_secs(1);

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
    /// Serve HTTP/JSON, WebSockets and metrics at this address, for example 127.0.0.1:8080 [default: nowhere]. Neither encrypted nor
    /// authenticated: who can connect can change pools.
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

    /// Reads the configuration file again. What concerns the controller as a whole takes a restart.
    async fn reload(&self, controller: &Controller, running: &ControllerSettings) {
        let Some(path) = &self.config else {
            tracing::info!("there is no configuration file to read again; see --config");
            return;
        };
        let config = match Config::read(path) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!("{error}; the controller goes on as it is");
                return;
            }
        };
        match self.resolve(config.settings) {
            Ok(resolved) if resolved.settings == *running => {}
            Ok(_) => tracing::warn!(
                "{}: what concerns the controller as a whole takes effect when it is started again",
                path.display()
            ),
            Err(error) => tracing::error!("{error:#}; the controller goes on as it is"),
        }
        controller.follow_file(config.pools).await;
        tracing::info!("{} was read again", path.display());
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
        let Resolved {
            settings,
            store,
            agents,
        } = self.resolve(settings)?;
        let agent = match &settings.agent_program {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .context("looking for the own program")?
                .with_file_name("lb-agent"),
        };
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
        let opened =
            patiently(
                async || match Keeper::open(&store, &settings.state, &settings.name) {
                    Err(KeeperError::Store(StoreError::InUse { .. })) => Ok(None),
                    other => Ok(Some(other?)),
                },
            )
            .await?;
        let Some((keeper, stored)) = opened else {
            bail!(
                "another controller uses {}; stop it, or give this one another --state",
                settings.state.display()
            );
        };
        let hub = Hub::new(Owned {
            owner: settings.name.clone(),
            state: settings.state.clone(),
            agent,
            allow_exec: settings.exec_drivers,
        });
        // One that has lost its store, or has another's name, must not remove what it finds.
        let is_new = stored.is_empty() && !self.take_over;
        if is_new {
            agents::refuse_strangers(&agents, &settings.name)
                .await
                .map_err(anyhow::Error::msg)?;
        }
        let names = stored.iter().map(|pool| pool.name.clone()).collect();
        let agents = Agents::start(agents, &settings.name, is_new, names);
        let probes = runner::slots().context("reading the limit of files")?;
        let keeping = tokio::spawn(keeper.clone().watch(CHECK));
        let controller =
            Controller::start(hub, keeper, agents, Arc::clone(&probes), stored, is_new)?;
        if self.config.is_some() {
            controller.follow_file(pools).await;
        }
        let (stop, stopping) = watch::channel(false);
        let mut ready: Vec<String> = listeners
            .iter()
            .map(|listener| listener.endpoint().to_string())
            .collect();
        if let Some(listener) = http {
            ready.push(format!("http://{}", listener.local_addr()?));
            let site = http::Site::new(
                controller.clone(),
                settings.http_origins.clone(),
                stopping.clone(),
            );
            tokio::spawn(http::serve(site, listener));
        }
        let mut api = tokio::spawn(api::serve(
            Api::new(controller.clone(), stopping.clone()),
            listeners,
            stopping,
        ));
        println!("lb-controller: ready on {}", ready.join(", "));
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!("telling the service manager that the controller is ready: {error}");
        }
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => self.reload(&controller, &settings).await,
                _ = ticks.tick() => {
                    if let Some(pool) = controller.ended() {
                        bail!("the task of pool {pool} has ended; instances run on, start the controller again");
                    }
                    if keeping.is_finished() {
                        bail!("the task that looks after the store has ended; start the controller again");
                    }
                }
                ended = &mut api => {
                    ended.context("the API's task failed")??;
                    bail!("the API's server has ended by itself; start the controller again");
                }
            }
        }
        tracing::info!("stopping; instances run on");
        // There may be no service manager, or it may have gone.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let _ = stop.send(true);
        api.await.context("the API's task failed")?
    }
}
