//! Stops threads of a process, as if they waited for something that never comes.

use std::{fs, io, sync::mpsc, thread};

use anyhow::{Context as _, anyhow, bail};

/// Stops the threads with this name of a process until the process ends, or until this one does. A debugger's means are the
/// only ones that stop a single thread.
///
/// # Errors
/// Fails without root, or if there is no such thread.
pub fn freeze_threads(pid: u32, name: &str) -> anyhow::Result<()> {
    let ids = find(pid, name)?;
    if ids.is_empty() {
        bail!("process {pid} has no thread {name}");
    }
    for id in ids {
        freeze(id, u32::try_from(id) == Ok(pid))
            .with_context(|| format!("stopping the thread {name} of process {pid}"))?;
    }
    Ok(())
}

fn freeze(id: libc::pid_t, is_first: bool) -> anyhow::Result<()> {
    let (sender, frozen) = mpsc::channel();
    // The kernel lets go of the thread when the one that has stopped it ends.
    thread::Builder::new()
        .name("freezer".to_owned())
        .spawn(move || {
            // The receiver waits for this.
            let _ = sender.send(stop(id));
            // The end of the first thread is that of the process, which is for somebody else to take.
            if is_first {
                let _ = wait_without_reaping(id);
            } else {
                reap(id);
            }
        })?;
    Ok(frozen
        .recv()
        .map_err(|_| anyhow!("the thread that freezes panicked"))??)
}

fn find(pid: u32, name: &str) -> anyhow::Result<Vec<libc::pid_t>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let comm = fs::read_to_string(entry.path().join("comm"))?;
        if comm.trim_end() == name {
            let id = entry.file_name();
            ids.push(id.to_string_lossy().parse()?);
        }
    }
    Ok(ids)
}

fn stop(id: libc::pid_t) -> io::Result<()> {
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: the addresses of these requests are not used.
        let result = unsafe {
            libc::ptrace(
                request,
                id,
                std::ptr::null_mut::<libc::c_void>(),
                std::ptr::null_mut::<libc::c_void>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    wait(id).map(drop)
}

/// Waits until the thread has ended: otherwise its process could not.
fn reap(id: libc::pid_t) {
    while let Ok(status) = wait(id) {
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return;
        }
    }
}

fn wait(id: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: the status is ours.
    let result = unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status)
}

fn wait_without_reaping(id: libc::pid_t) -> io::Result<()> {
    // SAFETY: all of its fields are numbers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let process = libc::id_t::try_from(id).map_err(io::Error::other)?;
    let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    // SAFETY: the information is ours.
    let result = unsafe { libc::waitid(libc::P_PID, process, &raw mut info, options) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
