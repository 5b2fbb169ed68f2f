//! The subject of a measurement.

use std::{fmt, io, path::PathBuf};

use super::{
    cgroup::{self, Groups, Mount},
    file::read,
};

/// The subject of a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The reporter's own control group if it has a limit, as in a container; otherwise the host.
    #[default]
    Own,
    /// A control group, given by its path as in `/proc/PID/cgroup` or by its folder.
    Group(PathBuf),
    /// The control group of a process, and the process's file descriptors and network namespace.
    Process(u32),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Own => write!(f, "own control group"),
            Subject::Group(path) => write!(f, "{}", path.display()),
            Subject::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

impl Subject {
    /// Locates the subject's control groups. Returns `None` if the subject is the whole host.
    ///
    /// # Errors
    /// When the process or the group does not exist.
    pub(super) fn groups(&self, mounts: &[Mount], host_cores: u32) -> io::Result<Option<Groups>> {
        let not_found = |reason: String| io::Error::new(io::ErrorKind::NotFound, reason);
        match self {
            Subject::Own => {
                let groups = Groups::of_process(mounts, &read("/proc/self/cgroup".as_ref())?);
                Ok(cgroup::is_limited(&groups, host_cores).then_some(groups))
            }
            Subject::Group(path) => {
                let groups = Groups::at(mounts, path);
                if groups.is_empty() {
                    return Err(not_found(format!(
                        "there is no control group {}; `cat /proc/PID/cgroup` shows a process's",
                        path.display()
                    )));
                }
                // The topmost group without a limit is the host.
                let is_host = groups.is_topmost() && !cgroup::is_limited(&groups, host_cores);
                Ok((!is_host).then_some(groups))
            }
            Subject::Process(pid) => {
                // A zombie is in the topmost group, which would measure the host.
                if has_ended(&read(format!("/proc/{pid}/stat").as_ref())?) {
                    return Err(not_found(format!("process {pid} has ended")));
                }
                let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
                let groups = Groups::of_process(mounts, &read(&path)?);
                if groups.is_empty() {
                    return Err(not_found(format!(
                        "the control group of process {pid} is not visible from here; in a container, run the \
                         reporter in the host's namespace of control groups"
                    )));
                }
                Ok(Some(groups))
            }
        }
    }
}

/// Returns true if `/proc/PID/stat` is that of a zombie or a dead process (proc_pid_stat(5)).
fn has_ended(stat: &str) -> bool {
    // The process name in parentheses may contain any character.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, Some('Z' | 'X' | 'x'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_are_distinguished_from_live_processes() {
        assert!(has_ended("7 (sh) Z 1 7 7 0 -1"));
        assert!(has_ended("7 (a) R b) Z 1 7"));
        assert!(!has_ended("7 (Z) Z) S 1 7"));
        assert!(!has_ended(""));
    }
}
