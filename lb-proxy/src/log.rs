//! The access log: a line of JSON for each logged request, written by a thread of its own. Requests never wait for it: lines
//! that do not fit its queue are dropped and counted.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use serde::Serialize;

use crate::{
    config::{AccessLog, ProxySettings},
    http::body::BodyError,
};

/// Lines that may wait to be written.
const QUEUE: usize = 8_192;

/// What is logged of a request.
#[derive(Debug, Serialize)]
pub struct Line {
    /// When the request came, in seconds since 1970.
    pub time: f64,
    /// The client's address, behind trusted proxies.
    pub client: IpAddr,
    /// The method.
    pub method: String,
    /// The host that the request names.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Time until the end of the answer, in seconds.
    pub seconds: f64,
    /// The service.
    pub service: Option<String>,
    /// The instance that answered.
    pub instance: Option<SocketAddr>,
    /// How often the request was offered to another instance.
    pub retries: u32,
    /// What the cache did.
    pub cache: Option<&'static str>,
    /// Why the answer is not complete.
    pub cut: Option<String>,
}

/// The line of a request whose answer is being sent. It is written when this is dropped.
#[derive(Debug)]
pub struct Record {
    line: Option<Box<Line>>,
    started: Instant,
    log: Arc<Log>,
}

impl Record {
    /// Counts bytes of the answer's body.
    pub fn count(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.bytes += bytes as u64;
        }
    }

    /// The answer is cut.
    pub fn cut(&mut self, error: BodyError) {
        if let Some(line) = &mut self.line {
            line.cut = Some(error.to_string());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.seconds = self.started.elapsed().as_secs_f64();
            if self.log.lines.try_send(line).is_err() {
                self.log.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The log.
#[derive(Debug)]
pub struct Log {
    lines: SyncSender<Box<Line>>,
    dropped: Arc<AtomicU64>,
    /// The thread that writes, until somebody watches over it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let (lines, queue) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&queue, std::io::stdout(), &lost))?;
        Ok(Arc::new(Log {
            lines,
            dropped,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Returns the thread that writes, for who watches over it.
    #[must_use]
    pub fn thread(&self) -> Option<JoinHandle<()>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.take()
    }

    /// Returns the lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Returns whether a request with this status is logged.
    #[must_use]
    pub fn wants(settings: &ProxySettings, status: u16) -> bool {
        match settings.access_log {
            AccessLog::Off => false,
            AccessLog::All => true,
            AccessLog::Sampled => status >= 500 || fastrand::u32(..settings.access_log_sample) == 0,
        }
    }

    /// Makes the record of a request that began at `started`.
    #[must_use]
    pub fn record(self: &Arc<Self>, line: Line, started: Instant) -> Record {
        Record {
            line: Some(Box::new(line)),
            started,
            log: Arc::clone(self),
        }
    }
}

/// Returns the time of a line.
#[must_use]
pub fn time() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn write(queue: &Receiver<Box<Line>>, mut output: impl Write, lost: &AtomicU64) {
    let mut text = Vec::new();
    while let Ok(first) = queue.recv() {
        text.clear();
        let mut count = 0;
        for line in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            // A line is plain data, which can be written as JSON.
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
                count += 1;
            }
        }
        let written = output.write_all(&text).and_then(|()| output.flush());
        if written.is_err() {
            // Nobody reads it any more, or its disk is full.
            lost.fetch_add(count, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_as_dropped() {
        let (lines, queue) = sync_channel(QUEUE);
        for _ in 0..3 {
            let line = Line {
                time: 0.0,
                client: [127, 0, 0, 1].into(),
                method: String::new(),
                host: String::new(),
                path: String::new(),
                status: 200,
                bytes: 0,
                seconds: 0.0,
                service: None,
                instance: None,
                retries: 0,
                cache: None,
                cut: None,
            };
            lines.send(Box::new(line)).unwrap();
        }
        drop(lines);
        let lost = AtomicU64::new(0);
        write(&queue, Full, &lost);
        assert_eq!(lost.load(Relaxed), 3);
    }
}
