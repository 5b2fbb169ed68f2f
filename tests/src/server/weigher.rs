//! A server of HAProxy's agent-check protocol that requests another weight each time.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv6Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;

use crate::Namespace;

/// Interval at which the server accepts connections and checks whether it has to stop.
const POLL: Duration = Duration::from_millis(20);

/// The percentages of its weight that the server requests, one after the other.
const PERCENTAGES: [u32; 7] = [100, 35, 80, 10, 60, 95, 20];

/// A server that answers each connection with another percentage of its weight.
#[derive(Debug)]
pub struct Weigher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Weigher {
    /// Starts the server in `namespace` on `port` of every address.
    ///
    /// # Errors
    /// Fails if the port is in use.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        let listener = namespace
            .enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?
            .with_context(|| format!("in {}: listening on {port}", namespace.label()))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut percentages = PERCENTAGES.iter().cycle();
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let percentage = percentages.next().unwrap_or(&100);
                        // A reader that disconnects needs no answer.
                        let _ = stream.write_all(format!("{percentage}%\n").as_bytes());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                    Err(error) => return Err(error).context("waiting for an agent-check"),
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

impl Drop for Weigher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure has shown as a missing answer.
            let _ = thread.join();
        }
    }
}
