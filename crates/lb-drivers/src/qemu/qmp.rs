//! QEMU's machine protocol (QMP), and that of its guest agent: JSON lines on a Unix socket.
//!
//! The crates of these protocols generate a type for each of some hundred commands; a dozen are needed here, and one of them
//! with a descriptor beside it. A connection lasts for a few commands, and every wait of it ends.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, ErrorKind, IoSlice, Read, Write as _},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// How long QEMU may take to answer a command; none of those that are used works for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest line that is read.
const LONGEST: u64 = 64 << 20;
/// Begins the answer that ends what a guest agent has left to say to an earlier peer.
const DELIMITER: u8 = 0xff;

/// A connection to a socket.
#[derive(Debug)]
struct Lines {
    reader: BufReader<UnixStream>,
    end: Instant,
}

impl Lines {
    /// Connects to the socket of this name in a folder, whose path may be longer than that of a socket.
    fn connect(folder: &Path, name: &str, patience: Duration) -> io::Result<Self> {
        let folder = File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        Ok(Lines {
            reader: BufReader::new(UnixStream::connect(path)?),
            end: Instant::now() + patience,
        })
    }

    /// Bounds the next wait by what is left of the time.
    fn bound(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bound()?;
        self.reader.get_ref().write_all(bytes).map_err(in_words)
    }

    /// Sends a line with an open file beside it.
    fn send_with(&mut self, bytes: &[u8], file: BorrowedFd<'_>) -> io::Result<()> {
        self.bound()?;
        let files = [file.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.reader.get_ref().as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::ScmRights(&files)],
            MsgFlags::empty(),
            None,
        )?;
        self.send(&bytes[sent..])
    }

    fn read(&mut self) -> io::Result<Value> {
        loop {
            self.bound()?;
            let mut line = Vec::new();
            let mut limited = Read::take(&mut self.reader, LONGEST);
            limited.read_until(b'\n', &mut line).map_err(in_words)?;
            if line.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                return serde_json::from_slice(line).map_err(io::Error::other);
            }
        }
    }
}

/// A wait that has ended is `WouldBlock` to the system.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// QEMU's answer to a command that it does not carry out.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}

/// Whether this is QEMU's answer, and not that there was none.
pub fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Refusal>())
}

/// The result of an answer; `None` if it is none, but an event or a greeting.
fn result(mut answer: Value) -> Option<io::Result<Value>> {
    if let Some(result) = answer.get_mut("return") {
        return Some(Ok(result.take()));
    }
    let why = answer.get("error")?.get("desc")?.as_str()?;
    Some(Err(io::Error::other(why.to_owned())))
}

/// What became of a migration.
#[derive(Debug)]
pub enum Migrated {
    /// All of the machine is where it was to go.
    Yes,
    /// It was given up: nothing runs where it was to go.
    No(io::Error),
    /// QEMU does not say so: it may run where it was to go.
    Unknown(io::Error),
}

/// A connection to the monitor of a machine.
#[derive(Debug)]
pub struct Monitor {
    lines: Lines,
    /// How long QEMU may take to answer a command.
    pub patience: Duration,
}

impl Monitor {
    /// Connects to the monitor at this socket.
    ///
    /// # Errors
    /// Nothing answers there in time.
    pub fn connect(folder: &Path, socket: &str) -> io::Result<Self> {
        let mut monitor = Monitor {
            lines: Lines::connect(folder, socket, PATIENCE)?,
            patience: PATIENCE,
        };
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Gives a command, and returns its result.
    ///
    /// # Errors
    /// It is refused, in QEMU's words, or not answered in time.
    pub fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        self.give(command, arguments, None)
    }

    /// Gives a command with an open file beside it.
    ///
    /// # Errors
    /// See [`Monitor::ask`].
    pub fn ask_with(
        &mut self,
        command: &str,
        arguments: &Value,
        file: BorrowedFd<'_>,
    ) -> io::Result<Value> {
        self.give(command, arguments, Some(file))
    }

    fn give(
        &mut self,
        command: &str,
        arguments: &Value,
        file: Option<BorrowedFd<'_>>,
    ) -> io::Result<Value> {
        self.lines.end = Instant::now() + self.patience;
        let line = format!(
            "{}\n",
            json!({ "execute": command, "arguments": arguments })
        );
        match file {
            Some(file) => self.lines.send_with(line.as_bytes(), file)?,
            None => self.lines.send(line.as_bytes())?,
        }
        loop {
            if let Some(result) = result(self.lines.read()?) {
                return result
                    .map_err(|error| io::Error::other(Refusal(format!("{command}: {error}"))));
            }
        }
    }

    /// What the machine does, in QEMU's word: `running`, `paused`, `inmigrate`, `postmigrate`, …
    ///
    /// # Errors
    /// See [`Monitor::ask`].
    pub fn status(&mut self) -> io::Result<String> {
        let status = self.ask("query-status", &json!({}))?;
        let word = status["status"].as_str();
        Ok(word.unwrap_or_default().to_owned())
    }

    /// Waits until the migration that was ordered has ended. One that takes longer than `patience` is given up, for which
    /// there is as much time as `giving_up` says.
    pub fn wait_migrated(&mut self, patience: Duration, giving_up: Duration) -> Migrated {
        let mut end = Instant::now() + patience;
        let mut is_given_up = false;
        let late = || io::Error::new(ErrorKind::TimedOut, format!("not within {patience:?}"));
        loop {
            let migration = match self.ask("query-migrate", &json!({})) {
                Ok(migration) => migration,
                Err(error) => return Migrated::Unknown(error),
            };
            match migration["status"].as_str() {
                Some("completed") => return Migrated::Yes,
                Some("failed" | "cancelled") if is_given_up => return Migrated::No(late()),
                Some("failed" | "cancelled") => {
                    let why = migration["error-desc"].as_str();
                    let why = why.unwrap_or("QEMU does not say why").to_owned();
                    return Migrated::No(io::Error::other(why));
                }
                _ if Instant::now() <= end => std::thread::sleep(Duration::from_millis(10)),
                _ if is_given_up => return Migrated::Unknown(late()),
                _ => {
                    is_given_up = true;
                    end = Instant::now() + giving_up;
                    // An answer in any case: its state is looked at again.
                    let _ = self.ask("migrate_cancel", &json!({}));
                }
            }
        }
    }
}

/// A connection to the agent in a guest (QEMU's own, `qemu-ga`).
#[derive(Debug)]
pub struct Agent(Lines);

impl Agent {
    /// Connects to the agent, and waits until it answers: it does when the guest has started it.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn connect(folder: &Path, socket: &str, patience: Duration) -> io::Result<Self> {
        let mut lines = Lines::connect(folder, socket, patience)?;
        // Any number: an answer with it, behind the delimiter, is to us.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let id =
            u64::from(std::process::id()) << 30 | u64::from(now.unwrap_or_default().subsec_nanos());
        let line = format!(
            "{}\n",
            json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } })
        );
        let mut hello = vec![DELIMITER];
        hello.extend_from_slice(line.as_bytes());
        lines.send(&hello)?;
        loop {
            lines.bound()?;
            let mut before = Vec::new();
            let read = lines.reader.read_until(DELIMITER, &mut before);
            if read.map_err(in_words)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if lines.read()?["return"] == id {
                return Ok(Agent(lines));
            }
        }
    }

    /// Waits for the next answers for so long.
    pub fn extend(&mut self, patience: Duration) {
        self.0.end = Instant::now() + patience;
    }

    /// Gives a command, and returns its result.
    ///
    /// # Errors
    /// It is refused, in the agent's words, or not answered in the time of the connection.
    pub fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        self.0.send(format!("{line}\n").as_bytes())?;
        loop {
            if let Some(result) = result(self.0.read()?) {
                return result.map_err(|error| io::Error::other(format!("{command}: {error}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A peer that sends what `say` returns for each line that it reads.
    fn peer(
        greeting: &'static str,
        say: impl Fn(&Value) -> Vec<u8> + Send + 'static,
    ) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(greeting.as_bytes()).unwrap();
                let reader = BufReader::new(stream.try_clone().unwrap());
                for line in reader.split(b'\n').map_while(Result::ok) {
                    let line = line.strip_prefix(&[DELIMITER]).unwrap_or(&line);
                    let asked: Value = serde_json::from_slice(line).unwrap();
                    if stream.write_all(&say(&asked)).is_err() {
                        break;
                    }
                }
            }
        });
        folder
    }

    #[test]
    fn answers_are_told_from_events() {
        let folder = peer("{\"QMP\": {}}\r\n", |asked| {
            let text = match asked["execute"].as_str().unwrap() {
                "query-status" => "{\"event\": \"STOP\"}\r\n{\"return\": {\"status\": \"paused\"}}",
                "cont" => "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}",
                _ => "{\"return\": {}}",
            };
            format!("{text}\r\n").into_bytes()
        });
        let mut monitor = Monitor::connect(folder.path(), "socket").unwrap();
        assert_eq!(monitor.status().unwrap(), "paused");
        let error = monitor.ask("cont", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "cont: no");
        assert_eq!(monitor.status().unwrap(), "paused");
    }

    #[test]
    fn what_an_agent_said_to_somebody_else_is_skipped() {
        let folder = peer("{\"return\": {\"pid\": 7}}\n", |asked| {
            if asked["execute"] == "guest-ping" {
                return b"{\"return\": {}}\n".to_vec();
            }
            let mut old = b"\xff{\"return\": 1}\n\xff".to_vec();
            old.extend(format!("{{\"return\": {}}}\n", asked["arguments"]["id"]).into_bytes());
            old
        });
        let patience = Duration::from_secs(20);
        let mut agent = Agent::connect(folder.path(), "socket", patience).unwrap();
        assert_eq!(agent.ask("guest-ping", &json!({})).unwrap(), json!({}));
    }

    #[test]
    fn silence_ends() {
        let folder = peer("", |_| Vec::new());
        let begin = Instant::now();
        let patience = Duration::from_millis(50);
        let error = Agent::connect(folder.path(), "socket", patience).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(20));
        let error = Agent::connect(folder.path(), "none", patience).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
