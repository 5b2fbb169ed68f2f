//! Child processes whose output is kept and whose life ends with a value.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{prctl, signal},
    unistd::Pid,
};

use crate::{wait::patience_here, wait_for};

/// How long a command may take that is expected to end by itself.
pub(crate) const COMMAND: Duration = Duration::from_secs(60);

/// Lines of output that are kept; older ones are discarded. An agent with a thousand reals may write that many lines at
/// once, and the line that a test waits for must not be discarded before the test looks for it.
const KEPT_LINES: usize = 20_000;

/// Lines of output that an error message shows.
const SHOWN_LINES: usize = 400;

/// How long the output of a process that has ended may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child process. Dropping the value ends it (SIGTERM, then SIGKILL); if this process dies, the kernel ends it.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// When it was sent SIGTERM.
    sigterm_at: Option<Instant>,
}

impl Process {
    /// Starts `command`; `label` names it in messages.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start(label: &str, mut command: Command) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = spawn(command).with_context(|| format!("starting {label} ({program})"))?;
        let lines = Arc::default();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(keep(stdout, Arc::clone(&lines)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(keep(stderr, Arc::clone(&lines)));
        }
        Ok(Self {
            label: label.to_owned(),
            child,
            lines,
            readers,
            sigterm_at: None,
        })
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its standard output and standard error together, in the order of arrival.
    pub fn output(&self) -> String {
        self.newest_lines(KEPT_LINES)
    }

    /// Returns the end of its output, for an error message.
    fn shown_output(&self) -> String {
        self.newest_lines(SHOWN_LINES)
    }

    fn newest_lines(&self, count: usize) -> String {
        let lines = lock(&self.lines);
        let newest = lines.iter().skip(lines.len().saturating_sub(count));
        newest.cloned().collect::<Vec<_>>().join("\n")
    }

    /// Returns the output of a process that has ended, once it has been read to its end.
    fn last_output(&self) -> String {
        // Its own children may keep the pipes open, so the wait is limited.
        let _ = wait_for("the end of the output", LAST_OUTPUT, || {
            Ok(self
                .readers
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(()))
        });
        self.shown_output()
    }

    /// Waits for a line of output that begins with `prefix` and contains `word`.
    ///
    /// # Errors
    /// Fails if the process ends before such a line, or the line does not come within `patience`.
    pub fn wait_line(
        &mut self,
        prefix: &str,
        word: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let found = wait_for("a line of output", patience, || {
            let said = lock(&self.lines)
                .iter()
                .any(|line| line.starts_with(prefix) && line.contains(word));
            if said {
                return Ok(Some(Ok(())));
            }
            Ok(self.child.try_wait()?.map(Err))
        });
        match found {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!(
                "{} ended ({status}) before it printed `{prefix} … {word}`:\n{}",
                self.label,
                self.last_output()
            ),
            Err(error) => Err(error.context(format!(
                "{} does not print `{prefix} … {word}`; its output so far:\n{}",
                self.label,
                self.shown_output()
            ))),
        }
    }

    /// Fails if the process has ended.
    ///
    /// # Errors
    /// Returns the output of a process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} has ended ({status}):\n{}",
                self.label,
                self.last_output()
            ),
        }
    }

    /// Waits until the process has ended by itself, and returns its exit status and its output.
    ///
    /// # Errors
    /// Fails if it does not end within `patience`.
    pub fn wait_end(&mut self, patience: Duration) -> anyhow::Result<(ExitStatus, String)> {
        let label = self.label.clone();
        let status = wait_for(&format!("the end of {label}"), patience, || {
            Ok(self.child.try_wait()?)
        })
        .with_context(|| self.output())?;
        Ok((status, self.last_output()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// Fails if the process is gone.
    pub fn signal(&self, signal: signal::Signal) -> anyhow::Result<()> {
        signal::kill(self.pid()?, signal)
            .with_context(|| format!("sending {signal} to {}", self.label))
    }

    /// Sends SIGKILL and waits until the process is gone.
    ///
    /// # Errors
    /// Fails if the process cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.label))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for the end of {}", self.label))?;
        Ok(())
    }

    /// Sends SIGTERM without waiting, so that many processes end at the same time. Dropping or stopping the value
    /// later waits only for the rest.
    pub fn ask_to_end(&mut self) {
        // Sending fails if the process has ended, which `end` notices.
        if self.sigterm_at.is_none() && self.signal(signal::SIGTERM).is_ok() {
            self.sigterm_at = Some(Instant::now());
            // A stopped process receives SIGTERM only when it continues.
            let _ = self.signal(signal::SIGCONT);
        }
    }

    /// Sends SIGTERM and waits for the end of the process.
    ///
    /// # Errors
    /// Fails if the process does not end in time, in which case it is killed, or if its exit status is a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.end()?;
        // A program without a handler for SIGTERM ends by that signal.
        if status.success() || status.signal() == Some(signal::SIGTERM as i32) {
            return Ok(());
        }
        bail!(
            "{} ended with {status}:\n{}",
            self.label,
            self.last_output()
        )
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.ask_to_end();
        let patience = self.sigterm_at.map_or(PATIENCE, |sigterm_at| {
            PATIENCE.saturating_sub(sigterm_at.elapsed())
        });
        let label = self.label.clone();
        match wait_for(&format!("the end of {label}"), patience, || {
            Ok(self.child.try_wait()?)
        }) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error.context(self.shown_output()))
            }
        }
    }
}

/// Runs a command to its end. A command that takes longer than `patience` is killed.
///
/// # Errors
/// Fails if the command cannot be started, or does not end within `patience`.
pub(crate) fn output_within(patience: Duration, mut command: Command) -> anyhow::Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let patience = patience_here(patience);
    let deadline = Instant::now() + patience;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let wait = |stream: mpsc::Receiver<Vec<u8>>| {
        stream.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    };
    let (Ok(stdout), Ok(stderr)) = (wait(stdout), wait(stderr)) else {
        child.kill()?;
        child.wait()?;
        bail!("{shown} did not end within {patience:?}");
    };
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr,
    })
}

/// Reads a stream to its end, on a thread of its own. After a read error the result is what was read before.
fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        // Sending fails if the receiver has given up on a command that took too long.
        let _ = sender.send(bytes);
    });
    result
}

impl Drop for Process {
    fn drop(&mut self) {
        // `end` kills a process that ignores SIGTERM, so nothing is left to do about a failure.
        let _ = self.end();
    }
}

type SpawnRequest = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Spawns a child on a thread that lives as long as this process: the kernel sends the parent-death signal when the
/// *thread* that has spawned the child ends, not the process (prctl(2), PR_SET_PDEATHSIG).
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<SpawnRequest>>> = OnceLock::new();
    // A process group of its own: Ctrl-C at the terminal must reach only this process, which then ends its children in
    // order.
    command.process_group(0);
    // SAFETY: prctl and sigprocmask are plain system calls, safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            prctl::set_pdeathsig(signal::SIGTERM)?;
            // Children inherit the signal mask. The demonstration blocks SIGTERM to wait for it, and a child that blocks
            // it, too, could only be killed.
            signal::SigSet::empty().thread_set_mask()?;
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<SpawnRequest>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                // The receiver waits for exactly this answer.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes is gone");
    lock(spawner).send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Keeps the lines of a stream, on a thread of its own that ends with the stream.
fn keep(stream: impl Read + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let mut lines = lock(&lines);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    })
}

/// Locks a mutex whose content stays valid even if another holder has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
