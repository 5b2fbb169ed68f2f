//! A host whose instances are entries of a map: what is measured is the controller.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use lb_drivers::{
    Capabilities, Command, DRIVERS, Driver, DriverError, Hint, Listed, Output, Owned, Phase,
};
use lb_hosts::{
    dial, remote,
    server::{HostServer, Room},
};
use lb_model::{
    pool::{DriverChoice, InstanceName, Launch},
    settings::SettingType as _,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{broadcast, watch},
};

/// What every node answers to whoever checks it.
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// Hints that nobody has read yet; who misses some lists again.
const HINTS: usize = 4_096;

/// A driver that notes what it is told, and does nothing.
#[derive(Debug)]
pub struct Simulated {
    instances: Mutex<BTreeMap<InstanceName, Phase>>,
    hints: broadcast::Sender<Hint>,
}

impl Simulated {
    /// A driver without instances.
    pub fn new() -> Self {
        Simulated {
            instances: Mutex::default(),
            hints: broadcast::Sender::new(HINTS),
        }
    }

    fn instances(&self) -> MutexGuard<'_, BTreeMap<InstanceName, Phase>> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many run.
    pub fn running(&self) -> usize {
        let instances = self.instances();
        instances.values().filter(|phase| phase.is_up()).count()
    }

    fn set(&self, name: &InstanceName, phase: Phase) {
        self.instances().insert(name.clone(), phase);
        // Nobody may listen.
        let _ = self.hints.send(Hint::Changed(name.clone()));
    }
}

#[async_trait]
impl Driver for Simulated {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pause: true,
            exec: true,
            watch: true,
            bridge: true,
            limits: true,
            ..Capabilities::default()
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let instances = self.instances();
        let listed = instances.iter().map(|(name, phase)| Listed {
            name: name.clone(),
            phase: phase.clone(),
            cgroup: String::new(),
            fault: None,
            labels: BTreeMap::new(),
        });
        Ok(listed.collect())
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        let mut instances = self.instances();
        instances
            .entry(launch.name.clone())
            .or_insert(Phase::Created);
        Ok(())
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.set(name, Phase::Running);
        Ok(())
    }

    async fn stop(&self, name: &InstanceName, _: Duration) -> Result<(), DriverError> {
        let ended = Phase::Ended {
            status: Some(0),
            reason: String::new(),
        };
        self.set(name, ended);
        Ok(())
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.instances().remove(name);
        let _ = self.hints.send(Hint::Changed(name.clone()));
        Ok(())
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.set(name, Phase::Paused);
        Ok(())
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.set(name, Phase::Running);
        Ok(())
    }

    async fn exec(&self, _: &InstanceName, _: &Command) -> Result<Output, DriverError> {
        // Whatever a node is told, it follows.
        Ok(Output {
            status: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        })
    }

    async fn logs(&self, _: &InstanceName, _: usize) -> Result<Vec<u8>, DriverError> {
        Ok(Vec::new())
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}

/// Answers every check at a port of all addresses of the network namespace of the calling thread.
pub async fn answer(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("listening at port {port}"))?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut head = [0; 1_024];
            // The whole request is one packet; who goes away meanwhile is not missed.
            if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(WELL).await;
            }
        });
    }
}

/// Joins a controller as a host whose processes are simulated, and serves it.
pub async fn serve(
    folder: &Path,
    controller: &str,
    token: &str,
    driver: Arc<Simulated>,
) -> anyhow::Result<()> {
    let token = token.parse().context("the token")?;
    let identity = dial::join(folder, controller, &token, &"simulated".parse()?).await?;
    let owned = Owned {
        owner: identity.controller.clone(),
        state: folder.to_owned(),
        agent: "/there/is/none".into(),
        allow_exec: false,
        receive_at: None,
    };
    let room = Room {
        cpu: 1e5,
        memory: 1 << 50,
        labels: BTreeMap::new(),
    };
    let server = HostServer::new(&identity, folder.to_owned(), owned, room);
    let choice = DriverChoice::from_json(&json!({ "kind": "process" }))?;
    let choice = DRIVERS.normalize(&choice)?;
    server.offer(&remote::key(&choice.driver), driver);
    let (_sender, identity) = watch::channel(Arc::new(identity));
    dial::serve(identity, server).await;
    Ok(())
}
