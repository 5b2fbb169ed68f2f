//! `lb-controller run`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use lb_clients::health::runner;
use lb_controller::{
    agents::{self, Agents},
    api::{self, Api},
    controller::Controller,
    http,
    hub::Hub,
    keeper::{Keeper, KeeperError, Place},
};
use lb_drivers::Owned;
use lb_model::intent::Owner;
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
    /// The controller's name: instances and reals belong to it. Several controllers on one machine have different names.
    #[arg(long, value_name = "NAME", default_value = "main")]
    name: String,
    /// Folder of the database and of the drivers
    #[arg(long, value_name = "DIR", default_value = "/var/lib/lb-controller")]
    state: PathBuf,
    /// Where pools and instances are stored: redb, a file in the folder; or redis:URL
    #[arg(
        long,
        value_name = "redb|redis:URL",
        default_value = "redb",
        env = "LB_STORE",
        hide_env_values = true
    )]
    store: Place,
    /// Where the API listens: unix:PATH or http://ADDRESS:PORT on loopback; give it again for more
    #[arg(long, value_name = "URI", num_args = 1.., default_value = "unix:/run/lb-controller/api.sock")]
    listen: Vec<Endpoint>,
    /// Serve HTTP/JSON and WebSockets at this address, for example 127.0.0.1:8080 [default: nowhere]. Neither encrypted nor
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

impl Run {
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
        format!("controller:{}", self.name)
            .parse::<Owner>()
            .context("--name")?;
        let agent = match self.agent_program {
            Some(path) => path,
            None => std::env::current_exe()
                .context("looking for the own program")?
                .with_file_name("lb-agent"),
        };
        std::fs::create_dir_all(&self.state)
            .with_context(|| format!("making {}", self.state.display()))?;
        let mut listeners = Vec::new();
        for endpoint in self.listen {
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
        let http = match self.http {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .with_context(|| format!("listening on {address} for HTTP"))?,
            ),
            None => None,
        };
        let opened = patiently(
            async || match Keeper::open(&self.store, &self.state, &self.name) {
                Err(KeeperError::Store(StoreError::InUse { .. })) => Ok(None),
                other => Ok(Some(other?)),
            },
        )
        .await?;
        let Some((keeper, stored)) = opened else {
            bail!(
                "another controller uses {}; stop it, or give this one another --state",
                self.state.display()
            );
        };
        let hub = Hub::new(Owned {
            owner: self.name.clone(),
            state: self.state.clone(),
            agent,
            allow_exec: self.exec_drivers,
        });
        let names = stored.iter().map(|pool| pool.name.clone()).collect();
        let agents = Agents::start(self.agent, &self.name, names);
        let probes = runner::slots().context("reading the limit of files")?;
        let keeping = tokio::spawn(keeper.clone().watch(CHECK));
        let controller = Controller::start(hub, keeper, agents, Arc::clone(&probes), stored)?;
        let (stop, stopping) = watch::channel(false);
        let mut ready: Vec<String> = listeners
            .iter()
            .map(|listener| listener.endpoint().to_string())
            .collect();
        if let Some(listener) = http {
            ready.push(format!("http://{}", listener.local_addr()?));
            let site = http::Site::new(controller.clone(), self.http_origin, stopping.clone());
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
