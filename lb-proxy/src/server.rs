//! A proxy: its threads and listeners, from its start to its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use lb_serve::watchdog::Pulse;

use crate::{
    config::{Config, ListenerSettings},
    listen::{
        Listener,
        handover::{Held, Sockets},
        socket,
        tls::{self, TlsError},
    },
    proxy::Shared,
    worker::{Thread, Worker},
};

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
    /// The threads of the workers, until somebody watches over them.
    threads: Mutex<Vec<Thread>>,
    listeners: Mutex<BTreeMap<SocketAddr, Arc<Listener>>>,
    held: Held,
}

/// The listeners that a configuration asks for, checked.
struct Prepared {
    settings: ListenerSettings,
    tls: Option<Arc<rustls::ServerConfig>>,
    sockets: Option<Vec<TcpListener>>,
}

/// A new address: its name in the configuration, its listener and its sockets.
type Fresh = (SocketAddr, Arc<Listener>, Vec<TcpListener>);

impl Server {
    /// Starts a proxy with so many threads. `inherited` are the sockets of the one before.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(config: Config, threads: usize, inherited: Sockets) -> Result<Self, ServerError> {
        let shared = Shared::new(config.clone(), threads).map_err(ServerError::Threads)?;
        let shared = Arc::new(shared);
        let (workers, threads) = (0..threads)
            .map(|number| Worker::start(number, Arc::clone(&shared)))
            .collect::<io::Result<(Vec<_>, Vec<_>)>>()
            .map_err(ServerError::Threads)?;
        let server = Server {
            shared,
            workers,
            threads: Mutex::new(threads),
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

    /// Returns the threads that serve clients, for who watches over them. They end when this is dropped.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut threads)
    }

    /// Returns what shows whether these threads do their work.
    pub fn pulses(&self) -> impl Iterator<Item = Arc<Pulse>> {
        self.workers.iter().map(Worker::pulse)
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
        let fresh = self.listen_to(prepared.iter_mut())?;
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
            if let Some(listener) = listeners.get(&name) {
                for socket in held.get(&listener.address).into_iter().flatten() {
                    let time = one.settings.send_timeout;
                    if let Err(error) = socket::set_options(socket, time) {
                        tracing::warn!("listening on {name}: send_timeout: {error}");
                    }
                }
                listener.settings.store(Arc::new(one.settings));
                listener.tls.store(one.tls);
            }
        }
        for (name, listener, sockets) in fresh {
            held.insert(listener.address, sockets);
            listeners.insert(name, listener);
        }
        Ok(())
    }

    /// Begins to accept at new addresses: at all, or at none.
    fn listen_to<'a>(
        &self,
        prepared: impl Iterator<Item = &'a mut Prepared>,
    ) -> Result<Vec<Fresh>, ServerError> {
        let mut fresh: Vec<Fresh> = Vec::new();
        for one in prepared {
            let Some(sockets) = one.sockets.take() else {
                continue;
            };
            let name = one.settings.address;
            let address = sockets
                .first()
                .and_then(|socket| socket.local_addr().ok())
                .unwrap_or(name);
            let listener = Arc::new(Listener {
                address,
                settings: ArcSwap::from_pointee(one.settings.clone()),
                tls: ArcSwapOption::new(one.tls.clone()),
            });
            let mut accepts = Ok(());
            for (position, socket) in sockets.iter().enumerate() {
                let worker = &self.workers[position % self.workers.len()];
                let copy = socket::set_options(socket, one.settings.send_timeout);
                let copy = copy.and_then(|()| socket.try_clone());
                accepts = copy.and_then(|copy| worker.listen(copy, Arc::clone(&listener)));
                if accepts.is_err() {
                    break;
                }
            }
            fresh.push((name, listener, sockets));
            if let Err(error) = accepts {
                for (_, listener, _) in &fresh {
                    for worker in &self.workers {
                        worker.forget(listener.address);
                    }
                }
                return Err(ServerError::Listen(address, error));
            }
        }
        Ok(fresh)
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

    /// Returns the number of connections of clients that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.totals.open_connections.load(Relaxed)
    }

    /// Accepts no connections any more; those that are open end with their next answer.
    pub fn begin_drain(&self) {
        self.shared.drain();
        for worker in &self.workers {
            worker.drain();
        }
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
