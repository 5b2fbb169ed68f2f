//! Real servers, each with its own configuration and folder, and small servers of the tests' own.

mod application;
mod docker;
mod echo;
mod files;
mod mosquitto;
mod name_server;
mod nginx;
mod node_exporter;
mod rabbitmq;
mod redis;
mod sink;
mod weigher;

pub use application::{Application, Behaviour, Sensor, WebApplication};
pub use docker::DockerEngine;
pub use echo::UdpEcho;
pub use files::{BIG_FILE, BLOCK, big_file_block};
pub use mosquitto::Mosquitto;
pub use name_server::{NameServer, NameServerKind};
pub use nginx::{Nginx, SERVER_HEADER};
pub use node_exporter::NodeExporter;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use sink::{Arrival, Arrivals, UdpSink};
pub use weigher::Weigher;

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

use crate::{Host, Namespace, Process, wait_for};

/// A web server in Perl that instances of pools can be: its argument is its port. `POST /api/v1/_crash` makes it answer 500
/// from then on, `GET /load` is a load of 95 %; any other request is answered with the instance's name.
pub const WEB_SERVER: &str = include_str!("web.pl");

/// A server that a [`Backend`](crate::Backend) runs.
pub trait Server {
    /// Fails if the server has ended.
    ///
    /// # Errors
    /// Returns the output of the process that has ended.
    fn check(&mut self) -> anyhow::Result<()>;

    /// Asks the server to end, without waiting; see [`Process::ask_to_end`].
    fn ask_to_end(&mut self);
}

/// A server that needs no settings.
pub trait StandardServer: Server + Sized {
    /// Starts the server on `host`, on its usual port.
    ///
    /// # Errors
    /// Fails if the program is missing or does not accept connections in time.
    fn start(host: &Host) -> anyhow::Result<Self>;
}

impl StandardServer for Nginx {
    fn start(host: &Host) -> anyhow::Result<Self> {
        Nginx::start(host, HTTP_PORT)
    }
}

impl Server for Nginx {
    fn check(&mut self) -> anyhow::Result<()> {
        self.check()
    }

    fn ask_to_end(&mut self) {
        self.ask_to_end();
    }
}

impl StandardServer for Mosquitto {
    fn start(host: &Host) -> anyhow::Result<Self> {
        Mosquitto::start(host, MQTT_PORT)
    }
}

impl Server for Mosquitto {
    fn check(&mut self) -> anyhow::Result<()> {
        self.check()
    }

    fn ask_to_end(&mut self) {
        self.ask_to_end();
    }
}

/// nginx and Mosquitto on one host.
#[derive(Debug)]
pub struct WebAndBroker {
    /// nginx; `None` while a test has stopped it.
    pub nginx: Option<Nginx>,
    /// Mosquitto.
    pub mosquitto: Mosquitto,
}

impl StandardServer for WebAndBroker {
    fn start(host: &Host) -> anyhow::Result<Self> {
        Ok(Self {
            nginx: Some(Nginx::start(host, HTTP_PORT)?),
            mosquitto: Mosquitto::start(host, MQTT_PORT)?,
        })
    }
}

impl Server for WebAndBroker {
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(nginx) = &mut self.nginx {
            nginx.check()?;
        }
        self.mosquitto.check()
    }

    fn ask_to_end(&mut self) {
        if let Some(nginx) = &mut self.nginx {
            nginx.ask_to_end();
        }
        self.mosquitto.ask_to_end();
    }
}

/// Usual port of web servers.
const HTTP_PORT: u16 = 80;

/// Usual port of MQTT brokers.
const MQTT_PORT: u16 = 1883;

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(30);

/// Waits until something accepts connections at `port` of the loopback addresses.
fn wait_listening(namespace: &Namespace, port: u16, process: &mut Process) -> anyhow::Result<()> {
    for address in [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        wait_accepting(namespace, (address, port).into(), process, START)?;
    }
    Ok(())
}

/// Waits until something accepts connections at this address.
///
/// # Errors
/// Fails if the process ends, or does not accept within `patience`; the error has its output.
pub fn wait_accepting(
    namespace: &Namespace,
    target: SocketAddr,
    process: &mut Process,
    patience: Duration,
) -> anyhow::Result<()> {
    wait_for(
        &format!("a server at {target} in {}", namespace.label()),
        patience,
        || {
            process.check()?;
            Ok(namespace
                .enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(1)))?
                .ok()
                .map(drop))
        },
    )
    .with_context(|| format!("its output:\n{}", process.output()))
}
