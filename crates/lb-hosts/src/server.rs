//! A host's drivers, for its controller.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use lb_drivers::{Command, DRIVERS, Driver, Hint, OpenError, Owned, Phase};
use lb_model::{
    host::HostName,
    pool::InstanceName,
    pool::{DriverChoice, Launch},
    settings::SettingType as _,
};
use lb_proto::host::v1::{self, host_server::Host as Service};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    BEAT, failure,
    identity::{self, Identity},
};

/// Hints that the controller may be behind.
const HINTS: usize = 1_024;
/// Endpoints that are asked at a time, and at most.
const ASKED: usize = 64;
const MOST_ASKED: usize = 256;
/// How long an endpoint may take to answer at most.
const MOST_WAIT: Duration = Duration::from_secs(10);

/// What a host has for instances.
#[derive(Clone, Debug)]
pub struct Room {
    /// Cores.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Labels, by which pools choose hosts.
    pub labels: BTreeMap<String, String>,
}

/// Bytes of memory of this machine.
///
/// # Errors
/// It cannot be read.
pub fn memory_of_machine() -> std::io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kibibytes = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemTotal:")?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kibibytes
        .map(|kibibytes| kibibytes * 1_024)
        .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal"))
}

/// What the host's controller has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Word {
    /// Nothing yet on this connection.
    #[default]
    Nothing,
    /// It follows this host.
    Welcome,
    /// It does not want it.
    Refused(String),
}

/// A host's drivers.
#[derive(Clone, Debug)]
pub struct HostServer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: HostName,
    controller: String,
    folder: PathBuf,
    owned: Owned,
    room: Room,
    drivers: Mutex<HashMap<String, Arc<dyn Driver>>>,
    hints: broadcast::Sender<v1::WatchResponse>,
    word: watch::Sender<Word>,
}

impl HostServer {
    /// The drivers of a host, which has this folder.
    #[must_use]
    pub fn new(identity: &Identity, folder: PathBuf, owned: Owned, room: Room) -> Self {
        HostServer(Arc::new(Inner {
            name: identity.name.clone(),
            controller: identity.controller.clone(),
            folder,
            owned,
            room,
            drivers: Mutex::default(),
            hints: broadcast::Sender::new(HINTS),
            word: watch::Sender::default(),
        }))
    }

    /// What the controller has said on the present connection.
    #[must_use]
    pub fn word(&self) -> watch::Receiver<Word> {
        self.0.word.subscribe()
    }

    /// A new connection begins.
    pub(crate) fn begin(&self) {
        self.0.word.send_replace(Word::Nothing);
    }

    fn drivers(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn Driver>>> {
        self.0
            .drivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver and the instance that a call is about.
    fn target(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<(Arc<dyn Driver>, InstanceName), Status> {
        let request = request.into_inner();
        Ok((self.driver(&request.driver)?, name(&request.name)?))
    }

    fn driver(&self, text: &str) -> Result<Arc<dyn Driver>, Status> {
        if let Some(driver) = self.drivers().get(text) {
            return Ok(Arc::clone(driver));
        }
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| Status::invalid_argument(format!("driver: {error}")))?;
        let choice = DriverChoice::from_json(&value)
            .map_err(|error| Status::invalid_argument(error.within("driver").to_string()))?;
        let choice = DRIVERS
            .normalize(&choice)
            .map_err(|error| Status::invalid_argument(error.within("driver").to_string()))?;
        let opened = lb_drivers::open(&choice.driver, &self.0.owned);
        let driver = opened.map_err(|error| match error {
            OpenError::Settings(error) => Status::invalid_argument(error.to_string()),
            OpenError::Driver(error) => failure::status(&error),
        })?;
        let mut known: Vec<String> = identity::drivers(&self.0.folder);
        if !known.iter().any(|one| one == text) {
            known.push(text.to_owned());
            // It is only a help for a controller that has forgotten its pools.
            if let Err(error) = identity::note_drivers(&self.0.folder, &known) {
                tracing::warn!("noting the driver {text}: {error}");
            }
        }
        Ok(self.offer(text, driver))
    }

    /// Has calls of the driver with these settings (see [`crate::remote::key`]) made of this one, unless there is one already; returns
    /// the one that is there then. It must be called in a tokio runtime.
    pub fn offer(&self, text: &str, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
        let mut drivers = self.drivers();
        // Another call may have been faster.
        if let Some(driver) = drivers.get(text) {
            return Arc::clone(driver);
        }
        drivers.insert(text.to_owned(), Arc::clone(&driver));
        tokio::spawn(forward(
            driver.watch(),
            text.to_owned(),
            self.0.hints.clone(),
        ));
        driver
    }
}

/// Sends on the hints of a driver.
async fn forward(
    mut from: broadcast::Receiver<Hint>,
    driver: String,
    to: broadcast::Sender<v1::WatchResponse>,
) {
    loop {
        let instance = match from.recv().await {
            Ok(Hint::Changed(name)) => name.to_string(),
            Ok(Hint::Relist) | Err(broadcast::error::RecvError::Lagged(_)) => String::new(),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let driver = driver.clone();
        // Nobody may listen.
        let _ = to.send(v1::WatchResponse { driver, instance });
    }
}

fn name(text: &str) -> Result<InstanceName, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("name: {text:?}: {error}")))
}

fn launch(text: &str) -> Result<Launch, Status> {
    serde_json::from_str(text).map_err(|error| Status::invalid_argument(format!("launch: {error}")))
}

fn done(result: Result<(), lb_drivers::DriverError>) -> Result<Response<v1::Done>, Status> {
    result
        .map(|()| Response::new(v1::Done {}))
        .map_err(|error| failure::status(&error))
}

/// Whether anything answers at an endpoint: a port that refuses is an answer, too.
pub async fn reach(endpoint: SocketAddr, wait: Duration) -> bool {
    match tokio::time::timeout(wait, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset
        ),
        Err(_) => false,
    }
}

#[tonic::async_trait]
impl Service for HostServer {
    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::Description>, Status> {
        let controller = request.into_inner().controller;
        if controller != self.0.controller {
            return Err(Status::failed_precondition(format!(
                "this host is one of the controller {}, not of {controller}: remove it there, and join here with a new token",
                self.0.controller
            )));
        }
        Ok(Response::new(v1::Description {
            name: self.0.name.to_string(),
            cpu: self.0.room.cpu,
            memory: self.0.room.memory,
            labels: self.0.room.labels.clone().into_iter().collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            drivers: identity::drivers(&self.0.folder),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut hints = self.0.hints.subscribe();
        let (sender, receiver) = mpsc::channel(HINTS);
        self.0.word.send_replace(Word::Welcome);
        tokio::spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            loop {
                let next = tokio::select! {
                    _ = beats.tick() => v1::WatchResponse::default(),
                    hint = hints.recv() => match hint {
                        Ok(hint) => hint,
                        // The controller lists once in a while anyway.
                        Err(broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                };
                if sender.send(Ok(next)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn refuse(
        &self,
        request: Request<v1::RefuseRequest>,
    ) -> Result<Response<v1::RefuseResponse>, Status> {
        let reason = request.into_inner().reason;
        self.0.word.send_replace(Word::Refused(reason));
        Ok(Response::new(v1::RefuseResponse {}))
    }

    async fn reach(
        &self,
        request: Request<v1::ReachRequest>,
    ) -> Result<Response<v1::ReachResponse>, Status> {
        let request = request.into_inner();
        if request.endpoints.len() > MOST_ASKED {
            return Err(Status::invalid_argument(format!(
                "endpoints: {MOST_ASKED} at most"
            )));
        }
        let wait = Duration::from_millis(request.timeout_ms.into()).min(MOST_WAIT);
        let mut endpoints = Vec::new();
        for text in &request.endpoints {
            let endpoint: SocketAddr = text
                .parse()
                .map_err(|_| Status::invalid_argument(format!("{text}: give ADDRESS:PORT")))?;
            endpoints.push(endpoint);
        }
        let asked = futures::stream::iter(endpoints).map(|endpoint| reach(endpoint, wait));
        let reached = asked.buffered(ASKED).collect().await;
        Ok(Response::new(v1::ReachResponse { reached }))
    }

    async fn open(
        &self,
        request: Request<v1::DriverRequest>,
    ) -> Result<Response<v1::OpenResponse>, Status> {
        let driver = self.driver(&request.into_inner().driver)?;
        let capabilities = serde_json::to_string(&driver.capabilities())
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::OpenResponse {
            capabilities,
            list_age_ms: u64::try_from(driver.list_age().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn list(
        &self,
        request: Request<v1::DriverRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let driver = self.driver(&request.into_inner().driver)?;
        let listed = driver
            .list()
            .await
            .map_err(|error| failure::status(&error))?;
        let instances = listed
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>();
        let instances = instances.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::ListResponse { instances }))
    }

    async fn create(
        &self,
        request: Request<v1::CreateRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let request = request.into_inner();
        let driver = self.driver(&request.driver)?;
        done(driver.create(&launch(&request.launch)?).await)
    }

    async fn start(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let (driver, name) = self.target(request)?;
        done(driver.start(&name).await)
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Result<Response<v1::Done>, Status> {
        let request = request.into_inner();
        let grace = Duration::from_millis(request.grace_ms);
        done(
            self.driver(&request.driver)?
                .stop(&name(&request.name)?, grace)
                .await,
        )
    }

    async fn remove(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let (driver, name) = self.target(request)?;
        done(driver.remove(&name).await)
    }

    async fn pause(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let (driver, name) = self.target(request)?;
        done(driver.pause(&name).await)
    }

    async fn resume(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let (driver, name) = self.target(request)?;
        done(driver.resume(&name).await)
    }

    async fn exec(
        &self,
        request: Request<v1::ExecRequest>,
    ) -> Result<Response<v1::ExecResponse>, Status> {
        let request = request.into_inner();
        let command = Command {
            words: request.words,
            input: request.input,
        };
        let driver = self.driver(&request.driver)?;
        let output = driver.exec(&name(&request.name)?, &command).await;
        let output = output.map_err(|error| failure::status(&error))?;
        Ok(Response::new(v1::ExecResponse {
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
        }))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<v1::LogsResponse>, Status> {
        let request = request.into_inner();
        let most = usize::try_from(request.most).unwrap_or(usize::MAX);
        let driver = self.driver(&request.driver)?;
        let text = driver.logs(&name(&request.name)?, most).await;
        let text = text.map_err(|error| failure::status(&error))?;
        Ok(Response::new(v1::LogsResponse { text }))
    }

    async fn reboot(
        &self,
        request: Request<v1::StopRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let request = request.into_inner();
        let grace = Duration::from_millis(request.grace_ms);
        let driver = self.driver(&request.driver)?;
        done(driver.reboot(&name(&request.name)?, grace).await)
    }

    async fn suspend(
        &self,
        request: Request<v1::InstanceRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let (driver, name) = self.target(request)?;
        done(driver.suspend(&name).await)
    }

    async fn clone_instance(
        &self,
        request: Request<v1::CloneRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let request = request.into_inner();
        let driver = self.driver(&request.driver)?;
        let from = name(&request.from)?;
        done(driver.clone_to(&from, &launch(&request.launch)?).await)
    }

    async fn receive(
        &self,
        request: Request<v1::CreateRequest>,
    ) -> Result<Response<v1::ReceiveResponse>, Status> {
        let request = request.into_inner();
        let driver = self.driver(&request.driver)?;
        let address = driver.receive(&launch(&request.launch)?).await;
        let address = address.map_err(|error| failure::status(&error))?;
        Ok(Response::new(v1::ReceiveResponse { address }))
    }

    async fn send(
        &self,
        request: Request<v1::SendRequest>,
    ) -> Result<Response<v1::SendResponse>, Status> {
        let request = request.into_inner();
        let driver = self.driver(&request.driver)?;
        let sent = driver.send(&name(&request.name)?, &request.to).await;
        let phase = sent.map_err(|error| failure::status(&error))?;
        Ok(Response::new(v1::SendResponse {
            was_running: phase == Phase::Running,
        }))
    }

    async fn received(
        &self,
        request: Request<v1::ReceivedRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let request = request.into_inner();
        let driver = self.driver(&request.driver)?;
        let phase = Phase::of_up(request.was_running);
        done(driver.received(&name(&request.name)?, phase).await)
    }
}
