//! Takes samples: reads the counters and compares them with those of the last sample.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Sample, Source, Subject,
    cgroup::{self, CpuLevel, Groups, Mount},
    cpu, descriptors,
    file::read,
    host::Host,
    network::{self, Traffic},
};

/// Takes samples of one subject.
#[derive(Debug)]
pub struct Sampler {
    subject: Subject,
    mounts: Vec<Mount>,
    host: Host,
    before: Before,
    /// Sum of what was used of the limit times how long, seconds.
    cpu_seconds: f64,
}

/// The counters of the last sample.
#[derive(Debug)]
struct Before {
    at: Instant,
    cpu: Vec<CpuLevel>,
    traffic: BTreeMap<String, Traffic>,
}

impl Sampler {
    /// Looks at the counters for the first time.
    ///
    /// # Errors
    /// When `/proc` cannot be read. A subject that is not there is none: it may come.
    pub fn new(subject: Subject) -> io::Result<Self> {
        let mounts = cgroup::mounts(&read(Path::new("/proc/self/mountinfo"))?);
        let mut sampler = Self {
            subject,
            mounts,
            host: Host::new().map_err(io::Error::other)?,
            before: Before {
                at: Instant::now(),
                cpu: Vec::new(),
                traffic: BTreeMap::new(),
            },
            cpu_seconds: 0.0,
        };
        sampler.take();
        Ok(sampler)
    }

    /// Looks again, and says what was used since the last look. What cannot be read is left out, with a note.
    pub fn take(&mut self) -> Sample {
        self.host.refresh();
        let mut sample = Sample {
            taken_at: SystemTime::now(),
            over: Duration::ZERO,
            cpu: None,
            cpu_seconds: None,
            cpu_limit: None,
            throttled: None,
            host_cpu: self.host.cpu_used(),
            host_memory: self.host.memory_used(),
            memory: None,
            memory_limit: None,
            file_descriptors: None,
            network: None,
            received: None,
            sent: None,
            connections: None,
            load_average: Host::load_average(),
            source: Source::Host,
            subject: "host".to_owned(),
            notes: Vec::new(),
            version: env!("CARGO_PKG_VERSION"),
        };
        let at = Instant::now();
        sample.over = at - self.before.at;
        let (cpu, processes) = match self.subject.groups(&self.mounts, self.host.cores()) {
            Ok(None) => {
                self.take_host(&mut sample);
                (Vec::new(), None)
            }
            Ok(Some(groups)) => {
                sample.subject = self.subject.to_string();
                let cpu = self.take_groups(&groups, &mut sample);
                let processes = match self.subject {
                    Subject::Process(pid) => vec![pid],
                    _ => cgroup::processes(&groups),
                };
                sample.file_descriptors = processes
                    .iter()
                    .filter_map(|pid| process_descriptors(*pid))
                    .max_by(f64::total_cmp);
                (cpu, Some(processes))
            }
            Err(error) => {
                sample.subject = self.subject.to_string();
                sample.notes.push(error.to_string());
                (Vec::new(), Some(Vec::new()))
            }
        };
        // A process tells its own network namespace; a group has that of its processes.
        let network = match processes.as_deref() {
            None => Some(PathBuf::from("/proc/net")),
            Some([]) => None,
            Some([process, ..]) => Some(PathBuf::from(format!("/proc/{process}/net"))),
        };
        let traffic = network
            .map(|folder| self.take_network(&folder, &mut sample))
            .unwrap_or_default();
        self.before = Before { at, cpu, traffic };
        match sample.cpu {
            Some(cpu) => {
                self.cpu_seconds += cpu * sample.over.as_secs_f64();
                sample.cpu_seconds = Some(self.cpu_seconds);
            }
            // What was used meanwhile is missing: who compares must see that.
            None => self.cpu_seconds = 0.0,
        }
        sample
    }

    fn take_host(&self, sample: &mut Sample) {
        sample.cpu = sample.host_cpu;
        sample.cpu_limit = Some(f64::from(self.host.cores()));
        sample.memory = sample.host_memory;
        sample.memory_limit = Some(self.host.memory());
        match read(Path::new("/proc/sys/fs/file-nr")) {
            Ok(told) => sample.file_descriptors = descriptors::of_host(&told),
            Err(error) => sample.notes.push(format!("file descriptors: {error}")),
        }
    }

    fn take_groups(&self, groups: &Groups, sample: &mut Sample) -> Vec<CpuLevel> {
        if let Some(version) = groups.version() {
            sample.source = version.into();
        }
        match cgroup::memory_levels(groups) {
            Ok(levels) => {
                let fullest = levels
                    .iter()
                    .map(|level| {
                        let limit = level
                            .limit
                            .map_or(self.host.memory(), |limit| limit.min(self.host.memory()));
                        // A limit of 0 is allowed, and full.
                        let used = level.used as f64 / limit.max(1) as f64;
                        (used.min(1.0), limit)
                    })
                    .max_by(|one, other| one.0.total_cmp(&other.0));
                (sample.memory, sample.memory_limit) = fullest.unzip();
            }
            Err(error) => sample.notes.push(format!("memory: {error}")),
        }
        let levels = match cgroup::cpu_levels(groups) {
            Ok(levels) => levels,
            Err(error) => {
                sample.notes.push(format!("cpu: {error}"));
                return Vec::new();
            }
        };
        let all = f64::from(self.host.cores());
        for level in &levels {
            let cores = level.cores.map_or(all, |cores| cores.min(all));
            let before = self
                .before
                .cpu
                .iter()
                .find(|before| before.folder == level.folder);
            let Some(used) = before
                .and_then(|before| cpu::between(&before.count, &level.count, sample.over, cores))
            else {
                continue;
            };
            if sample.cpu.is_none_or(|cpu| cpu < used.fraction) {
                sample.cpu = Some(used.fraction);
                sample.cpu_limit = Some(cores);
            }
            // `None` is less than any other.
            if sample.throttled < used.throttled {
                sample.throttled = used.throttled;
            }
        }
        levels
    }

    fn take_network(&self, folder: &Path, sample: &mut Sample) -> BTreeMap<String, Traffic> {
        match read(&folder.join("snmp")) {
            Ok(told) => sample.connections = network::connections(&told),
            Err(error) => sample.notes.push(format!("connections: {error}")),
        }
        let mut traffic = match read(&folder.join("dev")) {
            Ok(told) => network::counters(&told),
            Err(error) => {
                sample.notes.push(format!("network: {error}"));
                return BTreeMap::new();
            }
        };
        // What bridges and tunnels carry passes the hardware, too, and would count twice.
        let hardware = |name: &String| class(name).join("device").exists();
        let seen = is_own_network(folder);
        if seen && traffic.keys().any(hardware) {
            traffic.retain(|name, _| hardware(name));
        }
        let rate = |name: &str| {
            seen.then(|| read(&class(name).join("speed")).ok())?
                .and_then(|speed| network::link_rate(&speed))
        };
        // Without an interface in common nothing is known.
        let common = traffic
            .keys()
            .any(|name| self.before.traffic.contains_key(name));
        let rates = common
            .then(|| network::rates(&self.before.traffic, &traffic, sample.over, rate))
            .flatten();
        if let Some(rates) = rates {
            sample.received = Some(rates.received);
            sample.sent = Some(rates.sent);
            sample.network = rates.fraction;
        }
        traffic
    }
}

fn class(interface: &str) -> PathBuf {
    Path::new("/sys/class/net").join(interface)
}

/// Whether `/proc/PID/net` is that of this process: `/sys/class/net` tells of no other.
fn is_own_network(folder: &Path) -> bool {
    let namespace = |net: &Path| fs::read_link(net.parent()?.join("ns/net")).ok();
    folder == Path::new("/proc/net")
        || namespace(folder)
            .is_some_and(|other| Some(other) == namespace(Path::new("/proc/self/net")))
}

/// Of its limit; `None` when the process has gone.
fn process_descriptors(pid: u32) -> Option<f64> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    // Since Linux 6.2 the size of the folder is the number of descriptors; before it is 0.
    let open = match fs::metadata(&folder).ok()?.len() {
        0 => fs::read_dir(&folder).ok()?.count() as u64,
        open => open,
    };
    let limits = read(&PathBuf::from(format!("/proc/{pid}/limits"))).ok()?;
    descriptors::of_process(open, &limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_this_test_is_measured() {
        let mut sampler =
            Sampler::new(Subject::Process(std::process::id())).expect("/proc is there");
        std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let sample = sampler.take();
        let part = |part: Option<f64>| part.is_some_and(|part| (0.0..=1.0).contains(&part));
        assert!(part(sample.host_cpu), "{sample:?}");
        assert!(part(sample.host_memory), "{sample:?}");
        assert!(part(sample.file_descriptors), "{sample:?}");
        assert!(sample.connections.is_some(), "{sample:?}");
        assert!(sample.load_average.is_some(), "{sample:?}");
        assert!(sample.over >= sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let used = |sample: &Sample| sample.cpu.map(|cpu| cpu * sample.over.as_secs_f64());
        std::thread::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL);
        let next = sampler.take();
        let grown = next.cpu_seconds.zip(sample.cpu_seconds);
        assert_eq!(grown.map(|(next, before)| next - before >= 0.0), Some(true));
        assert!(
            grown
                .zip(used(&next))
                .is_some_and(|((next, before), used)| { (next - before - used).abs() < 1e-9 }),
            "{sample:?} {next:?}"
        );
    }

    #[test]
    fn what_is_gone_is_not_known_and_not_the_host() {
        let mut sampler = Sampler::new(Subject::Group("/lb/there/is/none".into())).expect("/proc");
        let sample = sampler.take();
        assert_eq!(sample.cpu, None);
        assert_eq!(sample.cpu_seconds, None);
        assert_eq!(sample.memory, None);
        assert_eq!(sample.file_descriptors, None);
        assert_eq!(sample.connections, None);
        assert_eq!(sample.subject, "/lb/there/is/none");
        assert!(
            sample.notes[0].contains("there is no control group"),
            "{:?}",
            sample.notes
        );
    }
}
