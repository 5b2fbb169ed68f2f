//! The idle connections to one instance, for each thread its own: a connection is driven by the thread that opened it.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};

use crate::{clock, http::body::RequestBody};

/// Streams that one HTTP/2 connection carries at most before another one is opened.
const STREAMS: usize = 100;

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// Gives the calling thread its number, by which it finds its connections.
pub fn number_thread(number: usize) {
    THREAD.set(number);
}

/// The connections of one instance.
#[derive(Debug)]
pub struct Pool(Box<[Mutex<Connections>]>);

#[derive(Default)]
struct Connections {
    idle: Vec<(Duration, http1::SendRequest<RequestBody>)>,
    shared: Vec<Shared>,
    /// One at a time opens an HTTP/2 connection.
    opening: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("idle", &self.idle.len())
            .field("shared", &self.shared.len())
            .finish_non_exhaustive()
    }
}

/// An HTTP/2 connection.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
    last_used: Duration,
    /// No more streams: it closes when those that are open have ended.
    is_closing: bool,
}

/// A stream of an HTTP/2 connection, counted until this is dropped.
#[derive(Debug)]
pub struct Stream(Arc<AtomicUsize>);

impl Stream {
    /// The only stream of a connection that is in no pool.
    #[must_use]
    pub fn alone() -> Self {
        Stream(Arc::new(AtomicUsize::new(1)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// Without connections, for so many threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Pool((0..threads.max(1)).map(|_| Mutex::default()).collect())
    }

    fn own(&self) -> MutexGuard<'_, Connections> {
        let number = THREAD.get().min(self.0.len() - 1);
        self.0[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection that was used last.
    #[must_use]
    pub fn take(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut own = self.own();
        while let Some((_, sender)) = own.idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    /// Gives a connection back. One above `most` is closed.
    pub fn give(&self, sender: http1::SendRequest<RequestBody>, most: usize) {
        let mut own = self.own();
        if own.idle.len() < most && !sender.is_closed() {
            own.idle.push((clock::now(), sender));
        }
    }

    /// Takes a stream of an open HTTP/2 connection with room for one.
    #[must_use]
    pub fn stream(&self) -> Option<(http2::SendRequest<RequestBody>, Stream)> {
        let mut own = self.own();
        own.shared.retain(|shared| !shared.sender.is_closed());
        let now = clock::now();
        own.shared.iter_mut().find_map(|shared| {
            if shared.is_closing || shared.streams.load(Relaxed) >= STREAMS {
                return None;
            }
            shared.last_used = now;
            shared.streams.fetch_add(1, Relaxed);
            let stream = Stream(Arc::clone(&shared.streams));
            Some((shared.sender.clone(), stream))
        })
    }

    /// Adds an HTTP/2 connection and takes a stream of it.
    #[must_use]
    pub fn share(&self, sender: &http2::SendRequest<RequestBody>) -> Stream {
        let streams = Arc::new(AtomicUsize::new(1));
        self.own().shared.push(Shared {
            sender: sender.clone(),
            streams: Arc::clone(&streams),
            last_used: clock::now(),
            is_closing: false,
        });
        Stream(streams)
    }

    /// Opens no more streams on the connection of this one, which closes when those that are open have ended.
    pub fn retire(&self, stream: &Stream) {
        let mut own = self.own();
        for shared in &mut own.shared {
            if Arc::ptr_eq(&shared.streams, &stream.0) {
                shared.is_closing = true;
            }
        }
    }

    /// Returns the lock of the one who opens an HTTP/2 connection.
    #[must_use]
    pub fn opening(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.own().opening)
    }

    /// Closes connections that were idle for `keep`.
    pub fn expire(&self, keep: Duration) {
        let now = clock::now();
        for connections in &self.0 {
            let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections
                .idle
                .retain(|(since, sender)| now.saturating_sub(*since) < keep && !sender.is_closed());
            connections.shared.retain(|shared| {
                let is_used = shared.streams.load(Relaxed) > 0;
                (is_used || !shared.is_closing && now.saturating_sub(shared.last_used) < keep)
                    && !shared.sender.is_closed()
            });
        }
    }

    /// Closes all connections, those with requests when these are answered.
    pub fn clear(&self) {
        for connections in &self.0 {
            let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.idle.clear();
            for shared in &mut connections.shared {
                shared.is_closing = true;
            }
            connections
                .shared
                .retain(|shared| shared.streams.load(Relaxed) > 0);
        }
    }

    /// Returns the number of idle HTTP/1.1 connections and of HTTP/2 connections.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(idle, shared), connections| {
            let connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
            (
                idle + connections.idle.len(),
                shared + connections.shared.len(),
            )
        })
    }
}
