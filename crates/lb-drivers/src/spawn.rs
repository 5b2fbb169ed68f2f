//! Starts processes that outlive this one: in a session and control groups of their own, and if wanted in a network
//! namespace of their own or of another process.

#![expect(
    unsafe_code,
    reason = "what a process does between fork and exec, and the promise that a descriptor stays open"
)]

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, getpid, setgid, setgroups, setsid, setuid},
};
use tokio::io::unix::AsyncFd;

/// What programs find in `PATH` unless they are told otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable that tells a program the name of its instance.
pub const INSTANCE: &str = "LB_INSTANCE";

/// The network namespace of a process.
pub enum NetworkOf {
    /// That of this program.
    Own,
    /// That of this file, `/proc/PID/ns/net`.
    File(File),
}

/// What a process becomes before its program runs.
pub struct Place {
    /// Files that members of its control groups write to.
    pub members: Vec<File>,
    /// Its network namespace.
    pub network: NetworkOf,
    /// Its user and group; `None` is root.
    pub user: Option<(u32, Option<u32>)>,
}

impl Place {
    /// Between fork and exec: joins the control groups, first of all, so that a process is never outside of them.
    fn join(&mut self) -> io::Result<()> {
        for member in &mut self.members {
            // 0 stands for the writing process.
            member.write_all(b"0")?;
        }
        Ok(())
    }

    fn become_user(&self) -> io::Result<()> {
        if let Some((user, group)) = self.user {
            let group = Gid::from_raw(group.unwrap_or(user));
            setgroups(&[group])?;
            setgid(group)?;
            setuid(Uid::from_raw(user))?;
        }
        Ok(())
    }
}

/// Makes a command start in this place.
pub fn place(command: &mut Command, mut place: Place) {
    // SAFETY: the closure makes system calls only, on memory that exists before the fork.
    unsafe {
        command.pre_exec(move || {
            place.join()?;
            setsid()?;
            if let NetworkOf::File(file) = &place.network {
                setns(file, CloneFlags::CLONE_NEWNET)?;
            }
            place.become_user()
        });
    }
}

/// Waits for the end of the process of this descriptor, and returns the descriptor.
///
/// # Errors
/// The descriptor cannot be waited for.
pub async fn ended(pidfd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: an `OwnedFd` is always the same descriptor, and it stays open until `into_inner` has ended the registration.
    let descriptor = unsafe { AsyncFd::register(pidfd) }?;
    // It becomes readable when the process ends (pidfd_open(2)).
    descriptor.readable().await?.retain_ready();
    Ok(descriptor.into_inner())
}

/// Starts a command in a network namespace that is made for it. The program runs when `connect` has connected the namespace
/// of the process with this id; if that fails, or this process is killed meanwhile, the program never runs.
///
/// # Errors
/// Those of `connect`, and those of starting the program.
pub fn spawn_connected<E: From<io::Error>>(
    mut command: Command,
    mut place: Place,
    connect: impl FnOnce(u32) -> Result<(), E>,
) -> Result<Child, E> {
    let (ready, mut ready_writer) = io::pipe()?;
    let (mut go_reader, go) = io::pipe()?;
    let go_here = go.as_raw_fd();
    // SAFETY: the closure makes system calls only, on memory that exists before the fork.
    unsafe {
        command.pre_exec(move || {
            // Until its network is connected, the process dies with this program, or rather with the thread that waits for
            // its exec.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            place.join()?;
            setsid()?;
            unshare(CloneFlags::CLONE_NEWNET)?;
            // The copy of the other process's end: without it, the read below notices that the other end is closed.
            if libc::close(go_here) != 0 {
                return Err(io::Error::last_os_error());
            }
            ready_writer.write_all(&getpid().as_raw().to_ne_bytes())?;
            go_reader.read_exact(&mut [0])?;
            place.become_user()?;
            // A change of the user clears it; root keeps it.
            prctl::set_pdeathsig(None)?;
            Ok(())
        });
    }
    // `spawn` returns when the program runs.
    let spawning = std::thread::spawn(move || command.spawn());
    let connected = wait_ready(ready).map(|pid| pid.map(connect));
    let mut go = OwnedFd::from(go);
    let result = match connected {
        Ok(Some(Ok(()))) => {
            let mut go = File::from(go);
            go.write_all(&[1]).map_err(E::from)
        }
        Ok(Some(Err(error))) => {
            close(&mut go);
            Err(error)
        }
        // The process did not come that far; `spawn` says why.
        Ok(None) => Ok(()),
        Err(error) => Err(E::from(error)),
    };
    let child = spawning.join().unwrap_or_else(|_| {
        Err(io::Error::other(
            "the thread that starts a program panicked",
        ))
    });
    match (result, child) {
        (Ok(()), child) => Ok(child?),
        (Err(error), _) => Err(error),
    }
}

/// Closes a descriptor now, by putting one of `/dev/null` in its place.
fn close(fd: &mut OwnedFd) {
    if let Ok(null) = File::open("/dev/null") {
        *fd = null.into();
    }
}

/// The id of the process that waits for its network; `None` if it has ended before.
fn wait_ready(mut ready: io::PipeReader) -> io::Result<Option<u32>> {
    let mut pid = [0; 4];
    match ready.read_exact(&mut pid) {
        Ok(()) => Ok(u32::try_from(i32::from_ne_bytes(pid)).ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
