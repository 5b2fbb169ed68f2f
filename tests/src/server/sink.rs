//! A UDP server that does not answer and records the numbers that arrive.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;

use crate::Namespace;

/// Interval at which the server checks whether it has to stop.
const POLL: Duration = Duration::from_millis(50);

/// Size of the socket's receive buffer in bytes, large enough that no datagram is lost here.
static BUFFER: libc::c_int = 16 << 20;

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// The number in the datagram.
    pub number: u64,
    /// The port it was sent from.
    pub source_port: u16,
}

/// What arrived at all sinks that share this value.
#[derive(Debug, Default)]
pub struct Arrivals {
    count: AtomicU64,
    by_sink: Mutex<Vec<(String, Arrival)>>,
}

impl Arrivals {
    /// Returns the number of datagrams.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns all datagrams, each with the name of the sink that received it.
    pub fn all(&self) -> Vec<(String, Arrival)> {
        self.by_sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, sink: &str, arrival: Arrival) {
        self.by_sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((sink.to_owned(), arrival));
        self.count.fetch_add(1, Ordering::Release);
    }
}

/// A server that records the number in each datagram.
#[derive(Debug)]
pub struct UdpSink {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl UdpSink {
    /// Starts the server in `namespace`; its name is the namespace's label.
    ///
    /// # Errors
    /// Fails if the address does not belong to the namespace or is in use.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        arrivals: &Arc<Arrivals>,
    ) -> anyhow::Result<Self> {
        let socket = namespace
            .enter(|| UdpSocket::bind(address))?
            .with_context(|| format!("in {}: binding {address}/udp", namespace.label()))?;
        enlarge(&socket).context("giving a sink a large buffer (this needs root)")?;
        socket.set_read_timeout(Some(POLL))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let name = namespace.label().to_owned();
        let arrivals = Arc::clone(arrivals);
        let thread = namespace.thread(move || {
            let mut datagram = [0; 16];
            while !stopped.load(Ordering::Relaxed) {
                match socket.recv_from(&mut datagram) {
                    Ok((length, client)) => {
                        let number = datagram[..length]
                            .try_into()
                            .context("a datagram that is not a number")?;
                        let arrival = Arrival {
                            number: u64::from_be_bytes(number),
                            source_port: client.port(),
                        };
                        arrivals.add(&name, arrival);
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

impl Drop for UdpSink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure has shown as a missing arrival.
            let _ = thread.join();
        }
    }
}

fn enlarge(socket: &UdpSocket) -> io::Result<()> {
    let length = size_of_val(&BUFFER) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option's value is `length` bytes that the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const BUFFER).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
