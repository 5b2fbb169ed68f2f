//! Answers by TCP.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{ServeError, Shared, failures::Failures, stopped};
use crate::answer::{Responder, Transport};

/// How long a client may take to send a message that it has begun, or to take an answer.
const MESSAGE: Duration = Duration::from_secs(5);
/// How long answers that are under way may take when the server ends.
const DRAIN: Duration = Duration::from_secs(1);
/// The part of the connections that one client may have.
const SHARE: usize = 8;

/// Accepts connections.
pub(super) async fn serve(
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let mut connections: JoinSet<IpAddr> = JoinSet::new();
    let mut by_client: HashMap<IpAddr, usize> = HashMap::new();
    let mut failures = Failures::new(address, "TCP");
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(ended) = connections.join_next() => {
                match ended {
                    Ok(client) => release(&mut by_client, client),
                    // Whose connection it was is not known; the process is at fault and says so.
                    Err(error) => return Err(ServeError::Task(error.to_string())),
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                failures.wait(error).await?;
                continue;
            }
        };
        failures.end();
        let (address, client) = (client.ip(), site(client.ip()));
        let of_client = by_client.entry(client).or_default();
        let full = connections.len() >= shared.tcp_connections
            || *of_client >= shared.tcp_connections / SHARE;
        if full {
            shared.counters.tcp_refused.count();
            if *of_client == 0 {
                by_client.remove(&client);
            }
            continue;
        }
        *of_client += 1;
        shared.counters.tcp_connections.count();
        let (shared, stopping) = (Arc::clone(&shared), stopping.clone());
        connections.spawn(async move {
            // A client that goes away in the middle of a message is no trouble of this server.
            let _ = converse(stream, address, &shared, stopping).await;
            client
        });
    }
    drop(listener);
    let _ = timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

/// Returns what counts as one client: an address, or a /56 of IPv6, which is one site with as many addresses as it likes.
fn site(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 72).into(),
        v4 => v4,
    }
}

/// Counts the end of a client's connection.
fn release(by_client: &mut HashMap<IpAddr, usize>, client: IpAddr) {
    if let Some(count) = by_client.get_mut(&client) {
        *count -= 1;
        if *count == 0 {
            by_client.remove(&client);
        }
    }
}

/// Answers the messages of a connection in their order, until the client ends it or is silent for too long.
async fn converse(
    mut stream: TcpStream,
    client: IpAddr,
    shared: &Shared,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = Vec::new();
    loop {
        let length = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return Ok(()),
            length = timeout(shared.tcp_idle, stream.read_u16()) => length??,
        };
        message.resize(usize::from(length), 0);
        timeout(MESSAGE, stream.read_exact(&mut message)).await??;
        shared.counters.tcp_messages.count();
        let answers = {
            let zone = shared.zone.load();
            let responder = Responder {
                zone: &zone,
                counters: &shared.counters,
                transfer: &shared.transfer,
            };
            responder.respond(&message, client, Transport::Tcp)
        };
        if answers.is_empty() {
            // What has no answer is no query; the client is no resolver.
            return Ok(());
        }
        for answer in &answers {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let mut framed = Vec::with_capacity(2 + answer.len());
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(answer);
            if let Err(error) = timeout(MESSAGE, stream.write_all(&framed)).await? {
                shared.counters.unsent.count();
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_one_client() {
        let site = |text: &str| site(text.parse().unwrap()).to_string();
        assert_eq!(site("192.0.2.1"), "192.0.2.1");
        assert_eq!(site("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(site("2001:db8:1:2ff:3::4"), "2001:db8:1:200::");
        assert_eq!(site("2001:db8:1:300::"), "2001:db8:1:300::");
    }
}
