//! What is measured.

use std::{fmt, io, path::PathBuf};

use super::{
    cgroup::{self, Groups, Mount},
    file::read,
};

/// What is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The control group the reporter itself is in, if it has a limit, as in a container; else the host.
    #[default]
    Own,
    /// A control group: its path as in `/proc/PID/cgroup`, or its folder.
    Group(PathBuf),
    /// The control group that a process is in, and the process's file descriptors and network namespace.
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
    /// Its control groups; `None`: the whole host is meant.
    ///
    /// # Errors
    /// When the process or the group is not there (any more).
    pub(super) fn groups(&self, mounts: &[Mount], host_cores: u32) -> io::Result<Option<Groups>> {
        let gone = |told: String| io::Error::new(io::ErrorKind::NotFound, told);
        match self {
            Subject::Own => {
                let groups = Groups::of_process(mounts, &read("/proc/self/cgroup".as_ref())?);
                Ok(cgroup::is_limited(&groups, host_cores).then_some(groups))
            }
            Subject::Group(path) => {
                let groups = Groups::at(mounts, path);
                if groups.is_empty() {
                    return Err(gone(format!(
                        "there is no control group {}; `cat /proc/PID/cgroup` tells a process's",
                        path.display()
                    )));
                }
                // The topmost group without a limit is the host.
                let whole = groups.is_topmost() && !cgroup::is_limited(&groups, host_cores);
                Ok((!whole).then_some(groups))
            }
            Subject::Process(pid) => {
                // What has ended and was not waited for is in the topmost group: that would be the host.
                if has_ended(&read(format!("/proc/{pid}/stat").as_ref())?) {
                    return Err(gone(format!("process {pid} has ended")));
                }
                let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
                let groups = Groups::of_process(mounts, &read(&path)?);
                if groups.is_empty() {
                    return Err(gone(format!(
                        "the control group of process {pid} is not seen from here; in a container, run the \
                         reporter in the host's namespace of control groups"
                    )));
                }
                Ok(Some(groups))
            }
        }
    }
}

/// Whether `/proc/PID/stat` is that of a zombie (proc_pid_stat(5)).
fn has_ended(stat: &str) -> bool {
    // The name before it may hold anything.
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.trim_start().chars().next());
    matches!(state, Some('Z' | 'X' | 'x'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_are_told_from_the_living() {
        assert!(has_ended("7 (sh) Z 1 7 7 0 -1"));
        assert!(has_ended("7 (a) R b) Z 1 7"));
        assert!(!has_ended("7 (Z) Z) S 1 7"));
        assert!(!has_ended(""));
    }
}
