//! A UDP server that returns its name and the client's address.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;

use crate::Namespace;

/// Interval at which the server checks whether it has to stop.
const POLL: Duration = Duration::from_millis(50);

/// A server that answers each datagram with `NAME CLIENT PAYLOAD`. It is bound to one address, because an answer must
/// come from the address that the datagram was sent to, the VIP.
#[derive(Debug)]
pub struct UdpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl UdpEcho {
    /// Starts the server in `namespace`; its name is the namespace's label.
    ///
    /// # Errors
    /// Fails if the address does not belong to the namespace or is in use.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> anyhow::Result<Self> {
        let socket = namespace
            .enter(|| UdpSocket::bind(address))?
            .with_context(|| format!("in {}: binding {address}/udp", namespace.label()))?;
        socket.set_read_timeout(Some(POLL))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let name = namespace.label().to_owned();
        let thread = namespace.thread(move || {
            let mut datagram = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                match socket.recv_from(&mut datagram) {
                    Ok((length, client)) => {
                        let mut answer = format!("{name} {client} ").into_bytes();
                        answer.extend_from_slice(&datagram[..length]);
                        socket
                            .send_to(&answer, client)
                            .context("answering a datagram")?;
                    }
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error).context("waiting for a datagram"),
                }
            }
            Ok(())
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure has shown as a missing answer.
            let _ = thread.join();
        }
    }
}
