//! A host's drivers as the controller uses them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lb_drivers::{
    Capabilities, Command, DRIVERS, Driver, DriverError, Hint, Listed, Output, Phase,
};
use lb_model::{
    component::Component,
    host::HostName,
    pool::{InstanceName, Launch},
    settings::Value,
};
use lb_proto::host::v1::{self, host_client::HostClient};
use tokio::sync::broadcast;
use tonic::{Response, Status, transport::Channel};

use crate::failure;

/// Hints that a reader may be behind.
const HINTS: usize = 1_024;
/// See [`Driver::list_age`].
const LIST_AGE: Duration = Duration::from_secs(10);

/// A host, whether it is connected or not.
#[derive(Debug)]
pub struct Remote {
    name: HostName,
    client: Mutex<Option<(u64, HostClient<Channel>)>>,
    hints: Mutex<HashMap<String, broadcast::Sender<Hint>>>,
}

impl Remote {
    /// A host that is not connected.
    #[must_use]
    pub fn new(name: HostName) -> Self {
        Remote {
            name,
            client: Mutex::default(),
            hints: Mutex::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &HostName {
        &self.name
    }

    /// It has connected; `number` is that of the connection.
    pub fn connect(&self, number: u64, client: HostClient<Channel>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, client));
        for hints in self.hints().values() {
            // Nobody may listen.
            let _ = hints.send(Hint::Relist);
        }
    }

    /// This connection has ended. A newer one stays.
    pub fn disconnect(&self, number: u64) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client
            .as_ref()
            .is_some_and(|(present, _)| *present == number)
        {
            *client = None;
        }
    }

    /// Its calls, while it is connected.
    #[must_use]
    pub fn client(&self) -> Option<HostClient<Channel>> {
        self.connection().map(|(_, client)| client)
    }

    fn connection(&self) -> Option<(u64, HostClient<Channel>)> {
        self.client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hints(&self) -> std::sync::MutexGuard<'_, HashMap<String, broadcast::Sender<Hint>>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the host hints at.
    pub fn hint(&self, hint: &v1::WatchResponse) {
        if let Some(hints) = self.hints().get(&hint.driver) {
            let changed = hint.instance.parse().map_or(Hint::Relist, Hint::Changed);
            // Nobody may listen.
            let _ = hints.send(changed);
        }
    }
}

/// How hosts are told which driver is meant.
#[must_use]
pub fn key(component: &Component) -> String {
    let mut map = component.settings.clone();
    map.insert("kind".to_owned(), Value::from(component.kind.as_str()));
    Value::Object(map).to_string()
}

/// A driver of a host.
#[derive(Debug)]
pub struct RemoteDriver {
    remote: Arc<Remote>,
    kind: &'static str,
    key: String,
    /// What it can do, and on which connection that was asked.
    opened: Mutex<(u64, Capabilities)>,
    hints: broadcast::Sender<Hint>,
}

impl RemoteDriver {
    /// The driver with these settings of a host.
    #[must_use]
    pub fn new(remote: Arc<Remote>, component: &Component) -> Self {
        let key = key(component);
        let hints = remote
            .hints()
            .entry(key.clone())
            .or_insert_with(|| broadcast::Sender::new(HINTS))
            .clone();
        RemoteDriver {
            kind: DRIVERS
                .find(&component.kind)
                .map_or("remote", |kind| kind.name),
            remote,
            key,
            opened: Mutex::default(),
            hints,
        }
    }

    fn connection(&self) -> Result<(u64, HostClient<Channel>), DriverError> {
        self.remote
            .connection()
            .ok_or_else(|| DriverError::Unreachable {
                engine: format!("host {}", self.remote.name),
                why: "it is not connected".to_owned(),
            })
    }

    fn client(&self) -> Result<HostClient<Channel>, DriverError> {
        self.connection().map(|(_, client)| client)
    }

    fn answer<T>(
        &self,
        doing: &'static str,
        answer: Result<Response<T>, Status>,
    ) -> Result<T, DriverError> {
        answer
            .map(Response::into_inner)
            .map_err(|status| failure::error(self.remote.name.as_str(), doing, &status))
    }

    fn request(&self, name: &InstanceName) -> v1::InstanceRequest {
        v1::InstanceRequest {
            driver: self.key.clone(),
            name: name.to_string(),
        }
    }

    fn launch(&self, launch: &Launch) -> Result<v1::CreateRequest, DriverError> {
        let launch = serde_json::to_string(launch).map_err(|error| self.unreadable(&error))?;
        Ok(v1::CreateRequest {
            driver: self.key.clone(),
            launch,
        })
    }

    fn stop_request(&self, name: &InstanceName, grace: Duration) -> v1::StopRequest {
        v1::StopRequest {
            driver: self.key.clone(),
            name: name.to_string(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn driver(&self) -> v1::DriverRequest {
        v1::DriverRequest {
            driver: self.key.clone(),
        }
    }

    fn unreadable(&self, error: &serde_json::Error) -> DriverError {
        DriverError::Failed {
            doing: format!("host {}: reading its answer", self.remote.name),
            why: format!("{error}; let host and controller have the same version"),
        }
    }

    /// Asks what it can do, once for each connection.
    async fn open(&self) -> Result<(), DriverError> {
        let (number, mut client) = self.connection()?;
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner).0;
        if known == number {
            return Ok(());
        }
        let answer = client.open(self.driver()).await;
        let answer = self.answer("opening the driver", answer)?;
        let capabilities =
            serde_json::from_str(&answer.capabilities).map_err(|error| self.unreadable(&error))?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = (number, capabilities);
        Ok(())
    }
}

#[async_trait]
impl Driver for RemoteDriver {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn capabilities(&self) -> Capabilities {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Capabilities {
            // The host's connection is watched, whatever its drivers do.
            watch: true,
            ..opened.1
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        self.open().await?;
        let driver = self.driver();
        let listed = self.answer("listing", self.client()?.list(driver).await)?;
        let listed = listed
            .instances
            .iter()
            .map(|text| serde_json::from_str(text));
        let listed: Result<Vec<Listed>, _> = listed.collect();
        let mut listed = listed.map_err(|error| self.unreadable(&error))?;
        for one in &mut listed {
            // It is one of the host's own machine, and not of this one.
            one.cgroup.clear();
        }
        Ok(listed)
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let request = self.launch(launch)?;
        let done = self.client()?.create(request).await;
        self.answer("creating", done).map(drop)
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        let request = self.request(name);
        let done = self.client()?.start(request).await;
        self.answer("starting", done).map(drop)
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let request = self.stop_request(name, grace);
        let done = self.client()?.stop(request).await;
        self.answer("stopping", done).map(drop)
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        let request = self.request(name);
        let done = self.client()?.remove(request).await;
        self.answer("removing", done).map(drop)
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        let request = self.request(name);
        let done = self.client()?.pause(request).await;
        self.answer("pausing", done).map(drop)
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        let request = self.request(name);
        let done = self.client()?.resume(request).await;
        self.answer("resuming", done).map(drop)
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let request = v1::ExecRequest {
            driver: self.key.clone(),
            name: name.to_string(),
            words: command.words.clone(),
            input: command.input.clone(),
        };
        let answer = self.client()?.exec(request).await;
        let answer = self.answer("running a program", answer)?;
        Ok(Output {
            status: answer.status,
            stdout: answer.stdout,
            stderr: answer.stderr,
        })
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let request = v1::LogsRequest {
            driver: self.key.clone(),
            name: name.to_string(),
            most: most as u64,
        };
        let answer = self.client()?.logs(request).await;
        Ok(self.answer("reading its output", answer)?.text)
    }

    async fn reboot(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let request = self.stop_request(name, grace);
        let done = self.client()?.reboot(request).await;
        self.answer("rebooting", done).map(drop)
    }

    async fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        let request = self.request(name);
        let done = self.client()?.suspend(request).await;
        self.answer("suspending", done).map(drop)
    }

    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        let request = v1::CloneRequest {
            driver: self.key.clone(),
            from: from.to_string(),
            launch: self.launch(launch)?.launch,
        };
        let done = self.client()?.clone_instance(request).await;
        self.answer("cloning", done).map(drop)
    }

    async fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        let request = self.launch(launch)?;
        let answer = self.client()?.receive(request).await;
        Ok(self.answer("receiving", answer)?.address)
    }

    async fn send(&self, name: &InstanceName, to: &str) -> Result<Phase, DriverError> {
        let request = v1::SendRequest {
            driver: self.key.clone(),
            name: name.to_string(),
            to: to.to_owned(),
        };
        let sent = self.client()?.send(request).await;
        let sent = self.answer("sending", sent)?;
        Ok(Phase::of_up(sent.was_running))
    }

    async fn received(&self, name: &InstanceName, phase: Phase) -> Result<(), DriverError> {
        let request = v1::ReceivedRequest {
            driver: self.key.clone(),
            name: name.to_string(),
            was_running: phase == Phase::Running,
        };
        let done = self.client()?.received(request).await;
        self.answer("receiving", done).map(drop)
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }

    fn list_age(&self) -> Duration {
        LIST_AGE
    }
}
