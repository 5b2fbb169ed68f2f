//! Network namespaces.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{
    Cgroup, Process,
    process::{COMMAND, output_within},
    wait_for,
};

/// A handle to a network namespace. Dropping the last clone kills the processes in the namespace and removes it with its
/// interfaces.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    label: String,
    file: File,
    kept: Mutex<Vec<OwnedFd>>,
    cgroup: Mutex<Option<Cgroup>>,
}

impl Namespace {
    /// Creates a namespace whose loopback interface is up. IPv6 addresses in it are usable at once. `label` names the
    /// namespace in messages.
    ///
    /// # Errors
    /// Fails without root, or on a kernel without network namespaces.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let made = thread::spawn(|| -> anyhow::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("this needs root and a kernel with network namespaces")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let file = made
            .join()
            .map_err(|_| anyhow!("the thread that makes a namespace panicked"))?
            .with_context(|| format!("making the network namespace {label}"))?;
        let namespace = Self(Arc::new(Inner {
            label: label.to_owned(),
            file,
            kept: Mutex::default(),
            cgroup: Mutex::default(),
        }));
        namespace.run(["ip", "link", "set", "lo", "up"])?;
        // Addresses are assigned by the testbed and unique, so duplicate address detection would only take time.
        for (name, value) in [("accept_dad", "0"), ("accept_ra", "0")] {
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("net/ipv6/conf/{scope}/{name}"), value)?;
            }
        }
        Ok(namespace)
    }

    /// Returns the name given to [`Namespace::new`].
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// Returns a path that `ip link ... netns PATH` and `nsenter --net=PATH` accept.
    pub fn path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.0.file.as_raw_fd()
        )
        .into()
    }

    /// Returns a command that runs in this namespace. Mounts are those of the machine: `/sys/fs/bpf` is visible, and
    /// `/sys/class/net` shows the machine's interfaces.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        // SAFETY: setns is a plain system call, safe between fork and exec.
        unsafe {
            command.pre_exec(move || Ok(setns(namespace.fd(), CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    /// Starts further programs in this control group, as on a host with as much CPU and memory.
    pub fn confine(&self, cgroup: Cgroup) {
        *self.cgroup() = Some(cgroup);
    }

    fn cgroup(&self) -> MutexGuard<'_, Option<Cgroup>> {
        self.0.cgroup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command to its end and returns its standard output.
    ///
    /// # Errors
    /// Fails if the command cannot be started or fails; the error has its standard error.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<String> {
        let mut words = words.into_iter();
        let program = words.next().context("a command has at least one word")?;
        let mut command = self.command(program);
        command.args(words);
        let shown = format!("{command:?}");
        let output =
            output_within(COMMAND, command).with_context(|| format!("in {}", self.label()))?;
        if !output.status.success() {
            bail!(
                "in {}: {shown} ended with {}: {}",
                self.label(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command given as one line of words without quotes.
    ///
    /// # Errors
    /// See [`Namespace::run`].
    pub fn sh(&self, line: &str) -> anyhow::Result<String> {
        self.run(line.split_whitespace())
    }

    /// Starts a program in the background.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        label: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Process> {
        let mut command = self.command(program);
        command.args(arguments);
        self.start_command(label, command)
    }

    /// Starts a command made by [`Namespace::command`] in the background.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start_command(&self, label: &str, mut command: Command) -> anyhow::Result<Process> {
        if let Some(cgroup) = &*self.cgroup() {
            cgroup.confine(&mut command)?;
        }
        Process::start(&format!("{label} in {}", self.label()), command)
    }

    /// Runs `work` on a thread of its own inside this namespace and returns its result. A panic of `work` continues on
    /// the calling thread.
    ///
    /// # Errors
    /// Fails if the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.move_thread()?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace, for as long as the thread runs or until it moves again.
    ///
    /// # Errors
    /// Fails if the namespace cannot be entered.
    pub fn move_thread(&self) -> anyhow::Result<()> {
        setns(self.fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering {}", self.label()))
    }

    /// Starts `work` on a thread of its own inside this namespace, without waiting for its end.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> thread::JoinHandle<anyhow::Result<T>> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.move_thread()?;
            work()
        })
    }

    /// Runs a future inside this namespace: sockets that it opens belong to the namespace.
    ///
    /// # Errors
    /// Returns the future's errors and those of [`Namespace::enter`].
    pub fn block_on<T: Send>(
        &self,
        future: impl Future<Output = anyhow::Result<T>> + Send,
    ) -> anyhow::Result<T> {
        self.enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(future)
        })?
    }

    /// Writes a setting below `/proc/sys`.
    ///
    /// # Errors
    /// Fails if the setting does not exist or the kernel rejects the value.
    pub fn sysctl(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let path = format!("/proc/sys/{name}");
        self.enter(|| fs::write(&path, value))?
            .with_context(|| format!("in {}: writing {value} to {path}", self.label()))
    }

    /// Reads a setting below `/proc/sys`.
    ///
    /// # Errors
    /// Fails if the setting does not exist.
    pub fn sysctl_value(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/sys/{name}");
        let value = self
            .enter(|| fs::read_to_string(&path))?
            .with_context(|| format!("in {}: reading {path}", self.label()))?;
        Ok(value.trim().to_owned())
    }

    /// Keeps a file descriptor open as long as the namespace exists.
    pub(crate) fn keep(&self, fd: OwnedFd) {
        self.0
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fd);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Ok(own) = self.file.metadata() else {
            return;
        };
        let _ = wait_for(
            "the end of a namespace's processes",
            Duration::from_secs(2),
            || {
                let left = processes_in(own.ino());
                for pid in &left {
                    // Fails for a process that has ended meanwhile.
                    let _ = signal::kill(*pid, Signal::SIGKILL);
                }
                Ok(left.is_empty().then_some(()))
            },
        );
    }
}

/// Returns the other processes whose network namespace has this inode number.
fn processes_in(inode: u64) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| meta.ino() == inode)
        })
        .filter_map(|pid| Some(Pid::from_raw(i32::try_from(pid).ok()?)))
        .collect()
}
