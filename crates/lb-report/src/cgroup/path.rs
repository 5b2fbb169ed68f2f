//! Where a control group's files are.
//!
//! `/proc/PID/cgroup` gives the path of a process's group in each hierarchy. `/proc/self/mountinfo` gives the
//! mount points of the hierarchies. A mount may show only a part of its hierarchy, as in a container
//! (cgroup_namespaces(7)).

use std::path::{Component, Path, PathBuf};

use super::Version;

/// A mounted hierarchy, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    version: Version,
    /// Version 1 only: the controllers of this hierarchy.
    controllers: Vec<String>,
    /// The group that appears at the mount point.
    root: PathBuf,
    point: PathBuf,
}

/// Parses the mounted hierarchies from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[must_use]
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    // Any number of optional fields precedes the separator.
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let version = match after.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = after.nth(1).unwrap_or_default();
    Some(Mount {
        version,
        controllers: options.split(',').map(str::to_owned).collect(),
        root: unescape(root).into(),
        point: unescape(point).into(),
    })
}

/// Undoes the kernel's escapes: blanks and backslashes appear as three octal digits.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |field, (escaped, plain)| {
        field.replace(escaped, plain)
    })
}

/// A group's folder in one mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath {
    pub(super) version: Version,
    /// The mount point: the topmost group that the mount shows.
    pub(super) top: PathBuf,
    /// The path below the mount point; empty for the topmost group itself.
    pub(super) path: PathBuf,
}

impl CgroupPath {
    /// Iterates over the folders of the group and its ancestors, from the group up.
    pub(super) fn levels(&self) -> impl Iterator<Item = PathBuf> {
        self.path.ancestors().map(|path| self.top.join(path))
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.top.join(&self.path)
    }
}

/// The folders of one group, or of one process's groups, by the controller that each holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Holds the quota.
    pub(super) cpu: Option<CgroupPath>,
    /// Holds the counter of used CPU time.
    pub(super) cpu_time: Option<CgroupPath>,
    pub(super) cpuset: Option<CgroupPath>,
    pub(super) memory: Option<CgroupPath>,
}

impl Groups {
    /// Locates the groups of a process from its `/proc/PID/cgroup`.
    #[must_use]
    pub fn of_process(mounts: &[Mount], proc_cgroup: &str) -> Self {
        Self::locate(mounts, |mount, controller| {
            let path = proc_cgroup.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                let matches = match mount.version {
                    Version::V1 => controllers.split(',').any(|name| name == controller),
                    Version::V2 => controllers.is_empty(),
                };
                matches.then_some(path)
            })?;
            below_mount(mount, Path::new(path))
        })
    }

    /// Locates the group at `path` in each hierarchy that has it. `path` is a path as in `/proc/PID/cgroup`, or
    /// the folder of a group in any hierarchy.
    #[must_use]
    pub fn at(mounts: &[Mount], path: &Path) -> Self {
        let inside = mounts
            .iter()
            .find_map(|mount| path.strip_prefix(&mount.point).ok().map(Path::to_owned))
            .unwrap_or_else(|| path.strip_prefix("/").unwrap_or(path).to_owned());
        let plain = |component| matches!(component, Component::Normal(_));
        if !inside.components().all(plain) {
            return Self::default();
        }
        Self::locate(mounts, |mount, _| {
            mount.point.join(&inside).is_dir().then(|| inside.clone())
        })
    }

    fn locate(mounts: &[Mount], path: impl Fn(&Mount, &str) -> Option<PathBuf>) -> Self {
        let locate = |controller: &str| {
            let v1 = mounts.iter().filter(|mount| {
                mount.version == Version::V1
                    && mount.controllers.iter().any(|name| name == controller)
            });
            let v2 = mounts.iter().filter(|mount| mount.version == Version::V2);
            // The kernel binds a controller to one hierarchy: version 2 lacks the controllers that version 1 has.
            let holders: Vec<&Mount> = match v1.collect::<Vec<_>>() {
                empty if empty.is_empty() => v2.collect(),
                holders => holders,
            };
            holders.into_iter().find_map(|mount| {
                Some(CgroupPath {
                    version: mount.version,
                    path: path(mount, controller)?,
                    top: mount.point.clone(),
                })
            })
        };
        Self {
            cpu: locate("cpu"),
            cpu_time: locate("cpuacct"),
            cpuset: locate("cpuset"),
            memory: locate("memory"),
        }
    }

    /// Returns true if no hierarchy has the group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns true if the group is the topmost one in every hierarchy that has it.
    #[must_use]
    pub fn is_topmost(&self) -> bool {
        [&self.cpu, &self.cpu_time, &self.cpuset, &self.memory]
            .into_iter()
            .flatten()
            .all(|cgroup| cgroup.path.as_os_str().is_empty())
    }

    /// Returns the version of the hierarchy with the CPU quota; without one, that of the memory controller.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.cpu
            .as_ref()
            .or(self.memory.as_ref())
            .map(|cgroup| cgroup.version)
    }
}

/// Returns the path of a group below a mount point; `None` if the mount does not show the group.
fn below_mount(mount: &Mount, path: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix(&mount.root).ok()?;
    // The kernel writes the path of a group outside this process's namespace with `..`.
    path.components()
        .all(|component| matches!(component, Component::Normal(_)))
        .then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
23 1 0:22 / / rw - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";
    /// A container without a cgroup namespace of its own sees a part of the hierarchy.
    const PART: &str = "32 31 0:29 /docker/1ae7 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";

    fn folder(cgroup: &Option<CgroupPath>) -> Option<String> {
        cgroup
            .as_ref()
            .map(|cgroup| cgroup.folder().to_string_lossy().into_owned())
    }

    #[test]
    fn a_process_on_version_2() {
        let groups = Groups::of_process(&mounts(V2), "0::/system.slice/mosquitto.service\n");
        let expected = "/sys/fs/cgroup/system.slice/mosquitto.service";
        for cgroup in [
            &groups.cpu,
            &groups.cpu_time,
            &groups.memory,
            &groups.cpuset,
        ] {
            assert_eq!(folder(cgroup).as_deref(), Some(expected));
        }
        assert_eq!(groups.version(), Some(Version::V2));
        let levels: Vec<_> = groups.cpu.expect("there is one").levels().collect();
        assert_eq!(
            levels,
            [expected, "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/"].map(PathBuf::from)
        );
    }

    #[test]
    fn a_process_on_version_1() {
        let cgroup = "4:memory:/m\n3:cpu,cpuacct:/docker/1ae7\n1:name=systemd:/s\n0::/u\n";
        let groups = Groups::of_process(&mounts(V1), cgroup);
        let cpu = Some("/sys/fs/cgroup/cpu,cpuacct/docker/1ae7".to_owned());
        assert_eq!(folder(&groups.cpu), cpu);
        assert_eq!(folder(&groups.cpu_time), cpu);
        assert_eq!(
            folder(&groups.memory),
            Some("/sys/fs/cgroup/memory/m".to_owned())
        );
        // No hierarchy of version 1 has the controller, so version 2 may.
        assert_eq!(
            folder(&groups.cpuset),
            Some("/sys/fs/cgroup/unified/u".to_owned())
        );
        assert_eq!(groups.version(), Some(Version::V1));
    }

    #[test]
    fn a_mount_that_shows_a_part_of_a_hierarchy() {
        let of = |cgroup| folder(&Groups::of_process(&mounts(PART), cgroup).cpu);
        assert_eq!(
            of("3:cpu:/docker/1ae7\n"),
            Some("/sys/fs/cgroup/cpu/".to_owned())
        );
        assert_eq!(
            of("3:cpu:/docker/1ae7/sub\n"),
            Some("/sys/fs/cgroup/cpu/sub".to_owned())
        );
        assert_eq!(of("3:cpu:/docker/other\n"), None);
    }

    #[test]
    fn a_group_outside_the_namespace_is_not_located() {
        let groups = Groups::of_process(&mounts(V2), "0::/../other\n");
        assert!(groups.is_empty(), "{groups:?}");
    }

    #[test]
    fn a_path_is_a_folder_or_a_group() {
        let tree = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(tree.path().join("lb/broker one")).expect("a group");
        let point = tree.path().to_str().expect("a path of letters");
        let mounts = mounts(&format!("30 23 0:26 / {point} rw - cgroup2 cgroup2 rw\n"));
        let whole = tree.path().join("lb/broker one");
        let expected = Some(whole.to_string_lossy().into_owned());
        for path in [Path::new("/lb/broker one"), &whole] {
            assert_eq!(folder(&Groups::at(&mounts, path).memory), expected);
        }
        for path in ["/lb/other", "/lb/../../etc"] {
            assert!(Groups::at(&mounts, Path::new(path)).is_empty(), "{path}");
        }
    }

    #[test]
    fn mount_points_with_blanks() {
        let line = "30 23 0:26 /a\\040b /mnt/c\\134d rw - cgroup2 none rw\n";
        let mount = &mounts(line)[0];
        assert_eq!(mount.root, Path::new("/a b"));
        assert_eq!(mount.point, Path::new("/mnt/c\\d"));
    }
}
