//! The trait of drivers.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use lb_model::pool::{InstanceName, Launch};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::DriverError;

/// See [`Driver::list_age`]: for engines that are asked over a connection.
const LIST_AGE: Duration = Duration::from_secs(30);

/// What one call of [`Driver::exec`] may print at most, in bytes, on each of its outputs.
pub const MAX_OUTPUT: usize = 1 << 20;

/// What a driver can do besides the life of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Instances can be paused and resumed.
    pub pause: bool,
    /// Programs can be run in an instance.
    pub exec: bool,
    /// The output of instances is kept.
    pub logs: bool,
    /// Changes are announced.
    pub watch: bool,
    /// Instances can have a network of their own.
    pub bridge: bool,
    /// CPU and memory can be limited on this machine.
    pub limits: bool,
    /// Instances can be suspended: their memory is on disk until they are resumed.
    pub suspend: bool,
    /// Instances can be cloned.
    pub clone: bool,
    /// Instances can move to another host while they run, and this host receives them.
    pub migrate: bool,
}

/// What an instance is doing, as its driver lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// It was made and not started yet.
    Created,
    /// It runs.
    Running,
    /// It exists and does nothing until it is resumed.
    Paused,
    /// It has ended.
    Ended {
        /// Its exit status; negative is the signal that ended it. `None` if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<i64>,
        /// Why, in words: `out of memory`.
        #[serde(default)]
        reason: String,
    },
}

impl Phase {
    /// Whether it takes resources: it runs or is paused.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Phase::Running | Phase::Paused)
    }

    /// That of an instance that is up.
    #[must_use]
    pub const fn of_up(is_running: bool) -> Self {
        if is_running {
            Phase::Running
        } else {
            Phase::Paused
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Created => f.write_str("created"),
            Phase::Running => f.write_str("running"),
            Phase::Paused => f.write_str("paused"),
            Phase::Ended { status, reason } => {
                f.write_str("ended")?;
                match status {
                    Some(signal @ ..0) => write!(f, " by signal {}", -signal)?,
                    Some(status) => write!(f, " with status {status}")?,
                    None => {}
                }
                if !reason.is_empty() {
                    write!(f, " ({reason})")?;
                }
                Ok(())
            }
        }
    }
}

/// An instance, as its driver lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub name: InstanceName,
    /// What it is doing.
    pub phase: Phase,
    /// Where its resources are counted: a control group's path, for readers of load. Empty if it does not run.
    #[serde(default)]
    pub cgroup: String,
    /// What is wrong with it although it runs, such as a network that is not connected. [`Driver::start`] mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The operator's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A program to run in an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub words: Vec<String>,
    /// What it reads on its standard input.
    #[serde(default)]
    pub input: Vec<u8>,
}

/// What a program printed that ran in an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its exit status; negative is the signal that ended it.
    pub status: i64,
    /// The beginning of its standard output, [`MAX_OUTPUT`] at most.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

/// Something may have changed. It is a hint: it can be lost, come late or twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// This instance may have changed.
    Changed(InstanceName),
    /// Anything may have changed: the connection to the engine was lost, and is there again.
    Relist,
}

/// Operates instances: containers, processes, virtual machines.
///
/// What [`Driver::list`] returns is the truth. Each instance has one deterministic name, and each other call is idempotent
/// by it: it can be repeated after a crash or a timeout, whatever had been done before, and the state that was asked for is
/// reached. A driver touches nothing that does not belong to its owner (see [`Owned`](crate::Owned)).
///
/// A call may be dropped at any moment.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// The name of its kind.
    fn kind(&self) -> &'static str;

    /// What it can do on this machine.
    fn capabilities(&self) -> Capabilities;

    /// All instances of the owner, in whatever phase, also those that another run of the controller made.
    ///
    /// # Errors
    /// [`DriverError`]; an incomplete list is an error, never a list.
    async fn list(&self) -> Result<Vec<Listed>, DriverError>;

    /// Makes an instance without starting it. One that exists stays as it is.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Invalid`] if it can never be made so.
    async fn create(&self, launch: &Launch) -> Result<(), DriverError>;

    /// Starts an instance, and connects its network. One that runs is left alone, save for a fault, which is mended. One
    /// that has ended runs again.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn start(&self, name: &InstanceName) -> Result<(), DriverError>;

    /// Ends an instance: politely, and after the grace period by force. It then is in phase `Ended`, or `Created` if it never
    /// ran.
    ///
    /// # Errors
    /// [`DriverError`]; one that does not exist is [`DriverError::NotFound`].
    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError>;

    /// Removes an instance with all that it has; one that runs is ended by force. One that does not exist is no error.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError>;

    /// Lets a running instance do nothing until it is resumed; its memory and connections stay.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError>;

    /// Lets a paused instance go on. One that runs is left alone.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError>;

    /// Runs a program in a running instance, to its end.
    ///
    /// # Errors
    /// [`DriverError`]; a program that fails is no error.
    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError>;

    /// The last bytes that the instance printed, at most this many.
    ///
    /// # Errors
    /// [`DriverError`].
    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError>;

    /// Hints at changes. A reader that is too slow misses some; whoever reads them lists once in a while anyway.
    fn watch(&self) -> broadcast::Receiver<Hint>;

    /// Ends an instance politely, and starts it again.
    ///
    /// # Errors
    /// [`DriverError`]; one that does not exist is [`DriverError::NotFound`].
    async fn reboot(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        self.stop(name, grace).await?;
        self.start(name).await
    }

    /// Writes what a running or paused instance has in memory to disk, and gives its memory back. It is listed as paused,
    /// and goes on with [`Driver::resume`] or [`Driver::start`]. One that is suspended stays so.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Unsupported`] without [`Capabilities::suspend`].
    async fn suspend(&self, name: &InstanceName) -> Result<(), DriverError> {
        let _ = name;
        Err(self.cannot("suspend"))
    }

    /// Makes an instance that is as another one is at this moment, without starting it. `launch` is what the new one would be
    /// made from; its name and address are its own. One that exists stays as it is.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Unsupported`] without [`Capabilities::clone`].
    async fn clone_to(&self, from: &InstanceName, launch: &Launch) -> Result<(), DriverError> {
        let _ = (from, launch);
        Err(self.cannot("clone"))
    }

    /// Makes an instance that waits for one of another host, which moves here while it runs. Returns where it listens, for
    /// [`Driver::send`] of the other host's driver. One that waits already goes on.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Unsupported`] without [`Capabilities::migrate`].
    async fn receive(&self, launch: &Launch) -> Result<String, DriverError> {
        let _ = launch;
        Err(self.cannot("receive an instance"))
    }

    /// Sends a running instance to where another host's driver waits for it. It then is in phase `Ended` here, and
    /// [`Driver::received`] there says that it goes on. One that cannot be sent runs on; if nobody says what became of it, it
    /// stands still, and is sent again. Returns what it did before, [`Phase::Running`] or [`Phase::Paused`].
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Unsupported`] if the driver never can.
    async fn send(&self, name: &InstanceName, to: &str) -> Result<Phase, DriverError> {
        let _ = (name, to);
        Err(self.cannot("send an instance"))
    }

    /// Waits until an instance that was sent here goes on with what it did there, which [`Driver::send`] says.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Unsupported`] if the driver never can.
    async fn received(&self, name: &InstanceName, phase: Phase) -> Result<(), DriverError> {
        let _ = (name, phase);
        Err(self.cannot("receive an instance"))
    }

    /// The error of a call that this driver does not have.
    fn cannot(&self, call: &'static str) -> DriverError {
        DriverError::Unsupported {
            driver: self.kind(),
            call,
        }
    }

    /// How old a list may become before there is another one: what changes without a hint is known that much later.
    fn list_age(&self) -> Duration {
        LIST_AGE
    }
}
