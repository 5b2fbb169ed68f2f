//! Threads that serve clients, each with a runtime, listening sockets and connections to instances of its own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use lb_serve::watchdog::{Pulse, beat};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinSet,
};

use crate::{
    listen::{self, Listener, Phase},
    proxy::Shared,
    upstream::number_thread,
};

/// How long a thread may take to listen. One that hangs is the watchdog's.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end.
const END: Duration = Duration::from_secs(2);

/// What a thread is to do.
#[derive(Debug)]
enum Command {
    /// Accept the connections of a socket, and say whether that can be done.
    Listen(TcpListener, Arc<Listener>, mpsc::Sender<io::Result<()>>),
    /// Accept no more connections at an address.
    Forget(SocketAddr),
}

/// A thread that serves clients.
#[derive(Debug)]
pub struct Worker {
    commands: UnboundedSender<Command>,
    phase: watch::Sender<Phase>,
    end: watch::Sender<bool>,
    pulse: Arc<Pulse>,
    /// Disconnected when the thread ends.
    life: Mutex<mpsc::Receiver<()>>,
}

/// A thread, which ends with an error or a panic unless its [`Worker`] is dropped.
pub type Thread = JoinHandle<anyhow::Result<()>>;

impl Worker {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system has none, or no file descriptor for its runtime.
    pub fn start(number: usize, shared: Arc<Shared>) -> io::Result<(Self, Thread)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (commands, received) = unbounded_channel();
        let (phase, phases) = watch::channel(Phase::Serving);
        let (end, ending) = watch::channel(false);
        let (lives, life) = mpsc::channel();
        let pulse = Arc::new(Pulse::default());
        let beating = Arc::clone(&pulse);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // Dropped last.
                let _lives: mpsc::Sender<()> = lives;
                number_thread(number);
                runtime.spawn(beat(beating));
                let ended = runtime.block_on(run(received, shared, phases, ending));
                drop(runtime);
                ended
            })?;
        let worker = Worker {
            commands,
            phase,
            end,
            pulse,
            life: Mutex::new(life),
        };
        Ok((worker, thread))
    }

    /// Accepts the connections of a socket.
    ///
    /// # Errors
    /// The system cannot watch the socket, or the thread does not answer.
    pub fn listen(&self, socket: TcpListener, listener: Arc<Listener>) -> io::Result<()> {
        let (answer, answers) = mpsc::channel();
        let command = Command::Listen(socket, listener, answer);
        let gone = |_| io::Error::other("a thread that serves clients does not answer");
        self.commands.send(command).map_err(|_| gone(()))?;
        answers.recv_timeout(PATIENCE).map_err(|_| gone(()))?
    }

    /// Accepts no more connections at an address.
    pub fn forget(&self, address: SocketAddr) {
        // A thread that has ended accepts none.
        let _ = self.commands.send(Command::Forget(address));
    }

    /// Accepts no connections any more, and ends those that are open when they have been answered.
    pub fn drain(&self) {
        let _ = self.phase.send(Phase::Draining);
    }

    /// Shows whether its tasks run.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.end.send(true);
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is ever sent: this is the thread's end. One that hangs must not keep a process that says why it ends.
        let _ = life.recv_timeout(END);
    }
}

async fn run(
    mut commands: UnboundedReceiver<Command>,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    mut end: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    // Dropping a sender ends the task that accepts.
    let mut listening: Vec<(SocketAddr, watch::Sender<()>)> = Vec::new();
    let mut accepting = JoinSet::new();
    loop {
        let command = tokio::select! {
            _ = end.wait_for(|end| *end) => return Ok(()),
            Some(ended) = accepting.join_next() => {
                check(ended)?;
                continue;
            }
            command = commands.recv() => command,
        };
        match command {
            Some(Command::Listen(socket, listener, answer)) => {
                let address = listener.address;
                let watched = tokio::net::TcpListener::from_std(socket).map(|socket| {
                    let (stop, stopped) = watch::channel(());
                    listening.push((address, stop));
                    let (shared, phase) = (Arc::clone(&shared), phase.clone());
                    accepting.spawn(async move {
                        listen::accept(socket, listener, shared, phase, stopped)
                            .await
                            .with_context(|| format!("accepting connections on {address}"))
                    });
                });
                // Who asked may have gone.
                let _ = answer.send(watched);
            }
            Some(Command::Forget(address)) => listening.retain(|(one, _)| *one != address),
            // Its worker is dropped, and says so by `end` as well.
            None => return Ok(()),
        }
    }
}

/// Looks at the end of a task that accepted connections: one that was not told to end takes the thread with it.
fn check(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(ended) => ended,
        Err(error) => match error.try_into_panic() {
            // The thread's end tells of it.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_task_that_accepts_is_the_threads_own() {
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        tasks.spawn(async { Ok(()) });
        check(tasks.join_next().await.unwrap()).unwrap();
        tasks.spawn(async { anyhow::bail!("no socket") });
        let error = check(tasks.join_next().await.unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "no socket");
        tasks.spawn(async {
            let name = "it";
            assert!(name.is_empty(), "{name} broke");
            Ok(())
        });
        let ended = tasks.join_next().await.unwrap();
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| check(ended))).unwrap_err();
        assert_eq!(caught.downcast_ref::<String>().unwrap(), "it broke");
    }
}
