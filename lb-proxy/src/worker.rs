//! Threads that serve clients, each with a runtime, listening sockets and connections to instances of its own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};

use crate::{
    listen::{self, Listener, Phase},
    proxy::Shared,
    upstream::number_thread,
};

/// What a thread is to do.
#[derive(Debug)]
enum Command {
    /// Accept the connections of a socket.
    Listen(TcpListener, Arc<Listener>),
    /// Accept no more connections at an address.
    Forget(SocketAddr),
}

/// A thread that serves clients.
#[derive(Debug)]
pub struct Worker {
    commands: UnboundedSender<Command>,
    phase: watch::Sender<Phase>,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system has none, or no file descriptor for its runtime.
    pub fn start(number: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (commands, received) = unbounded_channel();
        let (phase, phases) = watch::channel(Phase::Serving);
        let (end, ending) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                number_thread(number);
                runtime.block_on(run(received, shared, phases, ending));
            })?;
        Ok(Worker {
            commands,
            phase,
            end,
            thread: Some(thread),
        })
    }

    /// Accepts the connections of a socket.
    pub fn listen(&self, socket: TcpListener, listener: Arc<Listener>) {
        // A thread ends only when this is dropped.
        let _ = self.commands.send(Command::Listen(socket, listener));
    }

    /// Accepts no more connections at an address.
    pub fn forget(&self, address: SocketAddr) {
        let _ = self.commands.send(Command::Forget(address));
    }

    /// Accepts no connections any more, and ends those that are open when they have been answered.
    pub fn drain(&self) {
        let _ = self.phase.send(Phase::Draining);
    }

    /// Returns whether the thread has ended: it panicked, since nobody ended it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.end.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(
    mut commands: UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    mut end: watch::Receiver<bool>,
) {
    // Dropping a sender ends the task that accepts.
    let mut listening: Vec<(SocketAddr, watch::Sender<()>)> = Vec::new();
    let accept = async {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen(socket, listener) => {
                    let address = listener.address;
                    match tokio::net::TcpListener::from_std(socket) {
                        Ok(socket) => {
                            let (stop, stopped) = watch::channel(());
                            listening.push((address, stop));
                            let accepting = listen::accept(
                                socket,
                                listener,
                                Arc::clone(&shared),
                                phase.clone(),
                                stopped,
                            );
                            tokio::spawn(accepting);
                        }
                        Err(error) => tracing::error!("listening on {address}: {error}"),
                    }
                }
                Command::Forget(address) => listening.retain(|(one, _)| *one != address),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = accept => {}
        _ = end.wait_for(|end| *end) => {}
    }
}
