//! Real servers, each with its own configuration and folder.

mod echo;
mod files;
mod mosquitto;
mod nginx;
mod node_exporter;
mod rabbitmq;
mod sink;
mod weigher;

pub use echo::UdpEcho;
pub use files::{BIG_FILE, BLOCK, big_file_block};
pub use mosquitto::Mosquitto;
pub use nginx::{Nginx, SERVER_HEADER};
pub use node_exporter::NodeExporter;
pub use rabbitmq::RabbitMq;
pub use sink::{Arrival, Arrivals, UdpSink};
pub use weigher::Weigher;

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

use crate::{Namespace, Process, wait_for};

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
fn wait_accepting(
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
