//! The audit log: who changed what.
//!
//! Entries are written by a thread of its own, so that no order waits for the disk. A disk that is full stops nothing: up to
//! `WAITING` entries wait in memory until there is room, it is said meanwhile, and what is lost after that is counted and
//! stands in the log.

mod entry;
mod file;

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

pub use self::entry::{Entry, Outcome, Wanted};
use self::file::Files;

/// Entries that wait for room on the disk at most.
const WAITING: usize = 4_096;
/// How often writing is tried again while the disk is full.
const AGAIN: Duration = Duration::from_secs(1);
/// Entries that are written before they are made durable together.
const TOGETHER: usize = 256;

enum Job {
    Write(Box<Entry>),
    Read(Wanted, oneshot::Sender<io::Result<Vec<Entry>>>),
}

#[derive(Debug, Default)]
struct Shared {
    trouble: Mutex<Option<String>>,
    lost: AtomicU64,
    written: AtomicU64,
}

impl Shared {
    fn set_trouble(&self, text: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// The audit log. Clones are the same.
#[derive(Clone, Debug)]
pub struct Audit {
    jobs: mpsc::SyncSender<Job>,
    shared: Arc<Shared>,
}

impl Audit {
    /// Opens the log in a folder, and starts its thread, which ends when the last clone is dropped.
    ///
    /// # Errors
    /// The log cannot be opened, or the thread cannot be started.
    pub fn open(folder: &Path, size: u64, count: u32) -> io::Result<(Self, JoinHandle<()>)> {
        let files = Files::open(folder, size, count)?;
        let shared = Arc::new(Shared::default());
        let (jobs, receiver) = mpsc::sync_channel(WAITING);
        let writer = Writer {
            files,
            waiting: VecDeque::new(),
            told: 0,
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok((Audit { jobs, shared }, thread))
    }

    /// Has an entry written. This waits for nothing.
    pub fn write(&self, entry: Entry) {
        // The disk hangs, or its thread has ended, and with it the process.
        if self.jobs.try_send(Job::Write(Box::new(entry))).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Entries, the newest first; those that were handed in before are among them if they could be written.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn read(&self, wanted: Wanted) -> io::Result<Vec<Entry>> {
        let ended = || io::Error::other("the thread of the audit log has ended");
        let (reply, answer) = oneshot::channel();
        let busy = |_| io::Error::other("the audit log's disk does not answer");
        self.jobs.try_send(Job::Read(wanted, reply)).map_err(busy)?;
        answer.await.map_err(|_| ended())?
    }

    /// Why it cannot be written, if it cannot.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Entries that were written, and lost, since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.shared.written), read(&self.shared.lost))
    }
}

struct Writer {
    files: Files,
    waiting: VecDeque<Entry>,
    /// Lost entries that the log speaks of.
    told: u64,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let job = if self.waiting.is_empty() {
                match jobs.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                }
            } else {
                match jobs.recv_timeout(AGAIN) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => {
                        // It is the last chance.
                        self.write();
                        return;
                    }
                }
            };
            let mut reads = Vec::new();
            let mut take = |job, writer: &mut Writer| match job {
                Job::Write(entry) => writer.add(*entry),
                Job::Read(wanted, reply) => reads.push((wanted, reply)),
            };
            if let Some(job) = job {
                take(job, &mut self);
            }
            while self.waiting.len() < TOGETHER
                && let Ok(job) = jobs.try_recv()
            {
                take(job, &mut self);
            }
            self.write();
            for (wanted, reply) in reads {
                // Whoever asked may have gone.
                let _ = reply.send(self.files.read(&wanted));
            }
        }
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, as far as there is room.
    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let written = self.try_write();
        let had_trouble = {
            let trouble = self.shared.trouble.lock();
            trouble.unwrap_or_else(PoisonError::into_inner).is_some()
        };
        match written {
            Ok(()) => {
                if had_trouble {
                    tracing::info!("the audit log is written again");
                }
                self.shared.set_trouble(None);
            }
            Err(error) => {
                let text = format!(
                    "the audit log cannot be written: {error}; {} entries wait, {} are lost; make room on the disk of the \
                     controller's folder",
                    self.waiting.len(),
                    self.shared.lost.load(Ordering::Relaxed)
                );
                if !had_trouble {
                    tracing::error!("{text}");
                }
                self.shared.set_trouble(Some(text));
            }
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        let all = self.shared.lost.load(Ordering::Relaxed);
        if all > self.told {
            let lost = format!("{} entries", all - self.told);
            if let Some(first) = self.waiting.front() {
                let entry = Entry {
                    time: first.time,
                    who: "controller".to_owned(),
                    from: String::new(),
                    via: String::new(),
                    verb: "audit.lost".to_owned(),
                    project: None,
                    object: lost,
                    outcome: Outcome::Done,
                    status: String::new(),
                    before: None,
                    after: None,
                    request: String::new(),
                };
                self.files.append(&entry)?;
                self.told = all;
            }
        }
        while let Some(entry) = self.waiting.front() {
            self.files.append(entry)?;
            self.waiting.pop_front();
            self.shared.written.fetch_add(1, Ordering::Relaxed);
        }
        self.files.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64) -> Entry {
        Entry {
            time: jiff::Timestamp::from_second(number).unwrap(),
            who: "user:alice".to_owned(),
            from: "10.0.0.1:5".to_owned(),
            via: "http".to_owned(),
            verb: "pool.add".to_owned(),
            project: None,
            object: String::new(),
            outcome: Outcome::Done,
            status: "201".to_owned(),
            before: None,
            after: None,
            request: String::new(),
        }
    }

    #[tokio::test]
    async fn what_was_handed_in_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (audit, thread) = Audit::open(folder.path(), 1 << 20, 2).unwrap();
        for number in 0..1_000 {
            audit.write(entry(number));
        }
        let wanted = Wanted {
            most: 10_000,
            ..Wanted::default()
        };
        let read = audit.read(wanted).await.unwrap();
        assert_eq!(read.len(), 1_000);
        assert_eq!(read[0], entry(999));
        assert_eq!(audit.counts(), (1_000, 0));
        assert_eq!(audit.trouble(), None);
        drop(audit);
        thread.join().unwrap();
    }

    #[test]
    fn what_finds_no_room_waits_and_what_is_lost_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            files: Files::open(&folder.path().join("log"), 1 << 20, 2).unwrap(),
            waiting: VecDeque::new(),
            told: 0,
            shared: Arc::clone(&shared),
        };
        // Nothing can be made in the place of a file.
        std::fs::remove_dir_all(folder.path().join("log")).unwrap();
        std::fs::write(folder.path().join("log"), "").unwrap();
        let all = WAITING as i64 + 10;
        for number in 0..all {
            writer.add(entry(number));
        }
        writer.write();
        let trouble = shared.trouble.lock().unwrap().clone().unwrap();
        assert!(trouble.contains("10 are lost"), "{trouble}");
        std::fs::remove_file(folder.path().join("log")).unwrap();
        std::fs::create_dir(folder.path().join("log")).unwrap();
        writer.write();
        assert_eq!(*shared.trouble.lock().unwrap(), None);
        let wanted = Wanted {
            most: 10_000,
            ..Wanted::default()
        };
        let read = writer.files.read(&wanted).unwrap();
        assert_eq!(read.len(), WAITING + 1);
        assert_eq!(read[0], entry(all - 1));
        let first = read.last().unwrap();
        assert_eq!(
            (first.verb.as_str(), first.object.as_str()),
            ("audit.lost", "10 entries")
        );
    }
}
