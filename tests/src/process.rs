//! A child process whose output is kept and whose life is bound to a value.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{prctl, signal},
    unistd::Pid,
};

use crate::wait_for;

/// How long a command that is not meant to stay may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(60);

/// Lines of output that are kept for error messages; older ones are forgotten.
const KEPT_LINES: usize = 400;

/// How long a process may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child process. It is ended (SIGTERM, then SIGKILL) when the value is dropped, and by the kernel when
/// the laboratory itself dies.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// When it was asked to end.
    asked: Option<Instant>,
}

impl Process {
    /// Starts `command`; `label` names it in messages.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(label: &str, mut command: Command) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = spawn(command).with_context(|| format!("starting {label} ({program})"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            keep(stdout, Arc::clone(&lines));
        }
        if let Some(stderr) = child.stderr.take() {
            keep(stderr, Arc::clone(&lines));
        }
        Ok(Self {
            label: label.to_owned(),
            child,
            lines,
            asked: None,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote, standard output and error together, in the order it came.
    pub fn output(&self) -> String {
        lock(&self.lines).join("\n")
    }

    /// Waits for a line of output that begins with `prefix` and has `word` in it.
    ///
    /// # Errors
    /// When the process ends before it wrote such a line, or takes longer than `patience`.
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
                "{} ended ({status}) before it said `{prefix} … {word}`:\n{}",
                self.label,
                self.output()
            ),
            Err(error) => Err(error.context(format!(
                "{} does not say `{prefix} … {word}`; so far:\n{}",
                self.label,
                self.output()
            ))),
        }
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When it has ended, with its output.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}):\n{}", self.label, self.output()),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: signal::Signal) -> anyhow::Result<()> {
        signal::kill(self.pid()?, signal)
            .with_context(|| format!("sending {signal} to {}", self.label))
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.label))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for the end of {}", self.label))?;
        Ok(())
    }

    /// Asks it to end and does not wait: many that are asked end at the same time. Whoever drops or stops it
    /// waits only for what is left to do.
    pub fn ask_to_end(&mut self) {
        // One that is gone has ended; `end` sees that.
        if self.asked.is_none() && self.signal(signal::SIGTERM).is_ok() {
            self.asked = Some(Instant::now());
            // One that is stopped hears of it when it goes on; one that has ended since needs nothing.
            let _ = self.signal(signal::SIGCONT);
        }
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time (it is killed then), or its exit status tells of a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.end()?;
        // Ended by the very signal: a program without a handler of its own.
        if status.success() || status.signal() == Some(signal::SIGTERM as i32) {
            return Ok(());
        }
        bail!("{} ended with {status}:\n{}", self.label, self.output())
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.ask_to_end();
        let patience = self
            .asked
            .map_or(PATIENCE, |asked| PATIENCE.saturating_sub(asked.elapsed()));
        let label = self.label.clone();
        match wait_for(&format!("the end of {label}"), patience, || {
            Ok(self.child.try_wait()?)
        }) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error.context(self.output()))
            }
        }
    }
}

/// Runs a command to its end. One that takes too long is killed: a test that waits for ever tells nothing.
///
/// # Errors
/// When it cannot be started, or does not end within `patience`.
pub(crate) fn output_within(patience: Duration, mut command: Command) -> anyhow::Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
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

/// Reads a stream to its end, on a thread of its own. What is read before an error is the result.
fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        // Nobody waits any more when the command took too long.
        let _ = sender.send(bytes);
    });
    result
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do about a failure here: `end` has already killed what did not listen.
        let _ = self.end();
    }
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Spawns on a thread that lives as long as the laboratory: the kernel sends the death signal when the
/// *thread* that spawned a child ends, not the process (prctl(2), PR_SET_PDEATHSIG).
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    // A group of its own: an interrupt at the terminal is for the laboratory, which then ends its programs in
    // order.
    command.process_group(0);
    // SAFETY: prctl and sigprocmask are plain system calls, safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            prctl::set_pdeathsig(signal::SIGTERM)?;
            // A program inherits what is blocked here, and one that cannot be asked to end must be killed:
            // `cargo xtask run` blocks SIGTERM to wait for it.
            signal::SigSet::empty().thread_set_mask()?;
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // The other side waits for exactly this answer.
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

fn keep(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let mut lines = lock(&lines);
            if lines.len() == KEPT_LINES {
                lines.remove(0);
            }
            lines.push(line);
        }
    });
}

/// A panic of another holder does not spoil lines of text.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
