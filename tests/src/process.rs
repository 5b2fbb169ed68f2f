//! A child process whose output is kept and whose life is bound to a value.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{prctl, signal},
    unistd::Pid,
};

use crate::wait_for;

/// Lines of output that are kept for error messages; older ones are forgotten.
const KEPT_LINES: usize = 400;

/// How long a process may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child process. It is ended (SIGTERM, then SIGKILL) when the value is dropped, and by the kernel when
/// the laboratory itself dies.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
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
        self.signal(signal::SIGTERM)?;
        // One that is stopped hears of it when it goes on.
        self.signal(signal::SIGCONT)?;
        let label = self.label.clone();
        match wait_for(&format!("the end of {label}"), PATIENCE, || {
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
    // SAFETY: prctl is a plain system call, safe between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(signal::SIGTERM)?));
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
