//! A driver whose every call has a deadline.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use lb_model::pool::{InstanceName, Launch};
use tokio::sync::broadcast;

use crate::{Capabilities, Command, Driver, DriverError, Hint, Listed, Output, Phase};

/// What calls that copy an instance's memory or disk have besides: a gigabyte takes seconds, and some have many.
const MOVING: Duration = Duration::from_secs(600);

/// A driver whose every call ends at a deadline, however long the engine takes.
///
/// The call is dropped then. It is not known whether it was done; asking again finds out.
#[derive(Clone, Debug)]
pub struct Bounded {
    driver: Arc<dyn Driver>,
    deadline: Duration,
}

impl Bounded {
    /// Bounds the calls of a driver. A stop has its grace period in addition.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, deadline: Duration) -> Self {
        Bounded { driver, deadline }
    }

    async fn bound<T>(
        &self,
        call: &'static str,
        more: Duration,
        work: impl Future<Output = Result<T, DriverError>> + Send,
    ) -> Result<T, DriverError> {
        let after = self.deadline + more;
        tokio::time::timeout(after, work)
            .await
            .unwrap_or(Err(DriverError::TimedOut { call, after }))
    }
}

#[async_trait]
impl Driver for Bounded {
    fn kind(&self) -> &'static str {
        self.driver.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        self.bound("list", Duration::ZERO, self.driver.list()).await
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        self.bound("create", Duration::ZERO, self.driver.create(launch))
            .await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.bound("start", Duration::ZERO, self.driver.start(name))
            .await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.bound("stop", grace, self.driver.stop(name, grace))
            .await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.bound("remove", Duration::ZERO, self.driver.remove(name))
            .await
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.bound("pause", Duration::ZERO, self.driver.pause(name))
            .await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.bound("resume", Duration::ZERO, self.driver.resume(name))
            .await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        self.bound("exec", Duration::ZERO, self.driver.exec(name, command))
            .await
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        self.bound("logs", Duration::ZERO, self.driver.logs(name, most))
            .await
    }

    async fn reboot(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.bound("reboot", grace, self.driver.reboot(name, grace))
            .await
    }

    async fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.bound("suspend", MOVING, self.driver.suspend(name))
            .await
    }

    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        self.bound("clone", MOVING, self.driver.clone_to(from, launch))
            .await
    }

    async fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        self.bound("receive", Duration::ZERO, self.driver.receive(launch))
            .await
    }

    async fn send(&self, name: &InstanceName, to: &str) -> Result<Phase, DriverError> {
        self.bound("send", MOVING, self.driver.send(name, to)).await
    }

    async fn received(&self, name: &InstanceName, phase: Phase) -> Result<(), DriverError> {
        self.bound("receive", MOVING, self.driver.received(name, phase))
            .await
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.driver.watch()
    }

    fn list_age(&self) -> Duration {
        self.driver.list_age()
    }
}
