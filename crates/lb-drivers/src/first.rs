//! The first process of an instance: found again by its control group, its number and its start, and watched until it ends.

use std::{io, os::fd::AsFd as _};

use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open};

use crate::{
    folder::{Ending, Folder, Run},
    group::Group,
    process::{boot_id, stat},
    spawn,
};

/// The first process of the instance with this folder and group, if it lives. A number that another process has now is none.
pub fn find(folder: &Folder, group: &Group) -> io::Result<Option<Run>> {
    let members = group.processes()?;
    if members.is_empty() {
        return Ok(None);
    }
    let boot = boot_id();
    if let Some(run) = folder.run()? {
        let is_it = run.boot == boot
            && members.contains(&run.pid)
            && stat(run.pid).is_some_and(|stat| stat.is_alive && stat.started == run.started);
        return Ok(is_it.then_some(run));
    }
    // The controller was killed before it noted the process: it is the one that leads a session.
    let leader = members.into_iter().find_map(|pid| {
        let stat = stat(pid)?;
        (stat.is_alive && stat.session == pid).then_some(Run {
            pid,
            started: stat.started,
            boot: boot.clone(),
        })
    });
    if let Some(run) = &leader
        && folder.exists()
    {
        folder.set_run(run)?;
    }
    Ok(leader)
}

/// Tells how a process ends, as soon as it does. It must be called in a tokio runtime, or in a thread of its pool.
pub fn watch_end(group: Group, pid: u32, then: impl FnOnce(Ending) + Send + 'static) {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return;
    };
    let Ok(handle) = tokio::runtime::Handle::try_current() else {
        return;
    };
    // One that has ended and was waited for cannot be watched; listing finds it.
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::NONBLOCK) else {
        return;
    };
    let kills_before = group.out_of_memory();
    handle.spawn(async move {
        let Ok(descriptor) = spawn::ended(descriptor).await else {
            return;
        };
        // A process that another run of the controller started has another parent, which learns its status.
        let id = WaitId::PidFd(descriptor.as_fd());
        let status = rustix::process::waitid(id, WaitIdOptions::EXITED)
            .ok()
            .flatten();
        let status = status.and_then(|status| {
            let exited = status.exit_status().map(i64::from);
            exited.or_else(|| status.terminating_signal().map(|signal| -i64::from(signal)))
        });
        let is_starved = group.out_of_memory() > kills_before;
        then(Ending {
            status,
            reason: if is_starved { "out of memory" } else { "" }.to_owned(),
        });
    });
}
