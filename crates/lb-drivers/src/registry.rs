//! The kinds of drivers: one file each, named here.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use lb_model::{
    component::{Component, Kind, Registry},
    settings::FieldError,
};

use crate::{Driver, DriverError, docker, exec, process, qemu};

/// Who makes instances, and with what.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The controller's name: instances have it as a label, and a driver touches only those that do.
    pub owner: String,
    /// The controller's folder on this machine; a driver has a folder of its own in it.
    pub state: PathBuf,
    /// The program `lb-agent`, which makes instances reals of VIPs.
    pub agent: PathBuf,
    /// Whether the driver `exec` may run programs.
    pub allow_exec: bool,
    /// Where this machine receives instances that move here, in the place of what a driver's settings say.
    pub receive_at: Option<IpAddr>,
}

/// Why a driver cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its settings are wrong.
    #[error("{0}")]
    Settings(#[from] FieldError),
    /// It does not work on this machine.
    #[error("{0}")]
    Driver(#[from] DriverError),
}

/// The kinds of drivers, in the order of the documentation.
pub static DRIVERS: Registry = Registry {
    family: "driver",
    key: "kind",
    kinds: &[&process::KIND, &docker::KIND, &qemu::KIND, &exec::KIND],
};

/// Makes the driver of a pool.
///
/// # Errors
/// [`OpenError`].
pub fn open(component: &Component, owned: &Owned) -> Result<Arc<dyn Driver>, OpenError> {
    let kind: &Kind = DRIVERS.find(&component.kind)?;
    match kind.name {
        process::NAME => Ok(Arc::new(process::ProcessDriver::open(
            &component.read()?,
            owned,
        )?)),
        docker::NAME => Ok(Arc::new(docker::DockerDriver::open(
            &component.read()?,
            owned,
        )?)),
        qemu::NAME => Ok(Arc::new(qemu::QemuDriver::open(&component.read()?, owned)?)),
        exec::NAME => Ok(Arc::new(exec::ExecDriver::open(&component.read()?, owned)?)),
        other => unreachable!("{other} is in the registry"),
    }
}
