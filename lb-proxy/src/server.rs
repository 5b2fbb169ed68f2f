//! A proxy: its threads and listeners, from its start to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    config::{Config, ListenerSettings},
    listen::{
        Listener,
        handover::{Held, Sockets},
        socket,
        tls::{self, TlsError},
    },
    proxy::Shared,
    worker::Worker,
};

/// How often the end of open connections is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Why a proxy cannot start or follow a configuration. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address cannot be listened on.
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no threads or descriptors.
    #[error("starting the threads: {0}")]
    Threads(io::Error),
}

/// A running proxy.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    listeners: Mutex<BTreeMap<SocketAddr, Arc<Listener>>>,
    held: Held,
}

/// The listeners that a configuration asks for, checked.
struct Prepared {
    settings: ListenerSettings,
    tls: Option<Arc<rustls::ServerConfig>>,
    sockets: Option<Vec<TcpListener>>,
}

impl Server {
    /// Starts a proxy with so many threads. `inherited` are the sockets of the one before.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(config: Config, threads: usize, inherited: Sockets) -> Result<Self, ServerError> {
        let shared = Shared::new(config.clone(), threads).map_err(ServerError::Threads)?;
        let shared = Arc::new(shared);
        let workers = (0..threads)
            .map(|number| Worker::start(number, Arc::clone(&shared)))
            .collect::<io::Result<Vec<_>>>()
            .map_err(ServerError::Threads)?;
        let server = Server {
            shared,
            workers,
            listeners: Mutex::default(),
            held: Held::default(),
        };
        server.listen(&config.listeners, inherited)?;
        Ok(server)
    }

    /// Returns what its threads share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the sockets that the next proxy may have.
    #[must_use]
    pub fn held(&self) -> Held {
        Arc::clone(&self.held)
    }

    /// Returns the addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.keys().copied().collect()
    }

    /// Follows a configuration. Certificates are read again. Connections that are open go on.
    ///
    /// # Errors
    /// [`ServerError`]; nothing has changed then.
    pub fn reload(&self, config: Config) -> Result<(), ServerError> {
        self.listen(&config.listeners, Sockets::new())?;
        self.shared.follow(config);
        Ok(())
    }

    fn listen(
        &self,
        wanted: &[ListenerSettings],
        mut inherited: Sockets,
    ) -> Result<(), ServerError> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Everything that can fail comes first.
        let mut prepared = Vec::new();
        for settings in wanted {
            let tls = tls::configure(settings)?;
            let sockets = match listeners.contains_key(&settings.address) {
                true => None,
                false => Some(self.sockets(settings.address, &mut inherited)?),
            };
            prepared.push(Prepared {
                settings: settings.clone(),
                tls,
                sockets,
            });
        }
        let names: BTreeSet<SocketAddr> = wanted.iter().map(|listener| listener.address).collect();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|address, listener| {
            let stays = names.contains(address);
            if !stays {
                held.remove(&listener.address);
                for worker in &self.workers {
                    worker.forget(listener.address);
                }
            }
            stays
        });
        for one in prepared {
            let name = one.settings.address;
            let Some(sockets) = one.sockets else {
                if let Some(listener) = listeners.get(&name) {
                    listener.settings.store(Arc::new(one.settings));
                    listener.tls.store(one.tls);
                }
                continue;
            };
            let address = sockets
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .unwrap_or(name);
            let listener = Arc::new(Listener {
                address,
                settings: ArcSwap::from_pointee(one.settings),
                tls: ArcSwapOption::new(one.tls),
            });
            listeners.insert(name, Arc::clone(&listener));
            for (position, socket) in sockets.iter().enumerate() {
                let worker = &self.workers[position % self.workers.len()];
                let copy = socket
                    .try_clone()
                    .map_err(|error| ServerError::Listen(address, error))?;
                worker.listen(copy, Arc::clone(&listener));
            }
            held.insert(address, sockets);
        }
        Ok(())
    }

    /// The sockets of an address: all that the proxy before had, and as many more as there are threads.
    fn sockets(
        &self,
        address: SocketAddr,
        inherited: &mut Sockets,
    ) -> Result<Vec<TcpListener>, ServerError> {
        let failed = |error| ServerError::Listen(address, error);
        let Some(mut sockets) = inherited.remove(&address) else {
            return socket::bind(address, self.workers.len()).map_err(failed);
        };
        while sockets.len() < self.workers.len() {
            sockets.push(socket::bind_another(address).map_err(failed)?);
        }
        for socket in &sockets {
            socket.set_nonblocking(true).map_err(failed)?;
        }
        Ok(sockets)
    }

    /// Returns whether a thread has panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.workers.iter().any(Worker::is_gone)
    }

    /// Accepts no connections any more, and waits until those that are open have ended, but not longer than `most`.
    /// Returns how many are left.
    #[must_use]
    pub fn drain(&self, most: Duration) -> u64 {
        self.shared.drain();
        for worker in &self.workers {
            worker.drain();
        }
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let start = Instant::now();
        loop {
            let open = self.shared.totals.open_connections.load(Relaxed);
            if open == 0 || start.elapsed() >= most {
                return open;
            }
            std::thread::sleep(LOOK);
        }
    }
}
