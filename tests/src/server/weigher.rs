//! A server of HAProxy's agent-check protocol that is never content with its weight.

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

/// How long an order to stop, or a client, may wait.
const POLL: Duration = Duration::from_millis(20);

/// Percentages of its weight that it asks for, one after the other.
const PERCENTAGES: [u32; 7] = [100, 35, 80, 10, 60, 95, 20];

/// A server that answers each connection with a percentage of its weight, another one each time.
#[derive(Debug)]
pub struct Weigher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Weigher {
    /// Starts it in `namespace` on `port` of every address.
    ///
    /// # Errors
    /// When the port is in use.
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
                        // A reader that went away is its own affair.
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
            // Whoever asked it has seen its failure as a missing answer.
            let _ = thread.join();
        }
    }
}
