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
    previous: Counters,
    /// Integral of the used fraction of the CPU limit over time, in seconds.
    cpu_seconds: f64,
}

/// The counters of the last sample.
#[derive(Debug)]
struct Counters {
    at: Instant,
    cpu: Vec<CpuLevel>,
    traffic: BTreeMap<String, Traffic>,
}

impl Sampler {
    /// Reads the counters for the first time.
    ///
    /// # Errors
    /// When `/proc` cannot be read. A missing subject is no error, because it may appear later.
    pub fn new(subject: Subject) -> io::Result<Self> {
        let mounts = cgroup::mounts(&read(Path::new("/proc/self/mountinfo"))?);
        let mut sampler = Self {
            subject,
            mounts,
            host: Host::new().map_err(io::Error::other)?,
            previous: Counters {
                at: Instant::now(),
                cpu: Vec::new(),
                traffic: BTreeMap::new(),
            },
            cpu_seconds: 0.0,
        };
        sampler.take();
        Ok(sampler)
    }

    /// Reads the counters and returns what was used since the last call. Values that cannot be read are left out,
    /// with a note that says why.
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
        sample.over = at - self.previous.at;
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
        // A control group has the network namespace of its processes.
        let network = match processes.as_deref() {
            None => Some(PathBuf::from("/proc/net")),
            Some([]) => None,
            Some([process, ..]) => Some(PathBuf::from(format!("/proc/{process}/net"))),
        };
        let traffic = network
            .map(|folder| self.take_network(&folder, &mut sample))
            .unwrap_or_default();
        self.previous = Counters { at, cpu, traffic };
        match sample.cpu {
            Some(cpu) => {
                self.cpu_seconds += cpu * sample.over.as_secs_f64();
                sample.cpu_seconds = Some(self.cpu_seconds);
            }
            // The use since the last sample is missing. Starting over tells readers that compare two samples.
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
            Ok(text) => sample.file_descriptors = descriptors::of_host(&text),
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
                        // The kernel allows a limit of 0, which counts as full.
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
            let previous = self
                .previous
                .cpu
                .iter()
                .find(|previous| previous.folder == level.folder);
            let Some(used) = previous.and_then(|previous| {
                cpu::between(&previous.count, &level.count, sample.over, cores)
            }) else {
                continue;
            };
            if sample.cpu.is_none_or(|cpu| cpu < used.fraction) {
                sample.cpu = Some(used.fraction);
                sample.cpu_limit = Some(cores);
            }
            // `None` is less than any `Some`.
            if sample.throttled < used.throttled {
                sample.throttled = used.throttled;
            }
        }
        levels
    }

    fn take_network(&self, folder: &Path, sample: &mut Sample) -> BTreeMap<String, Traffic> {
        match read(&folder.join("snmp")) {
            Ok(text) => sample.connections = network::connections(&text),
            Err(error) => sample.notes.push(format!("connections: {error}")),
        }
        let mut traffic = match read(&folder.join("dev")) {
            Ok(text) => network::counters(&text),
            Err(error) => {
                sample.notes.push(format!("network: {error}"));
                return BTreeMap::new();
            }
        };
        // Traffic of bridges and tunnels also passes the hardware interfaces and would count twice.
        let hardware = |name: &String| class(name).join("device").exists();
        let own = is_own_network(folder);
        if own && traffic.keys().any(hardware) {
            traffic.retain(|name, _| hardware(name));
        }
        let rate = |name: &str| {
            own.then(|| read(&class(name).join("speed")).ok())?
                .and_then(|speed| network::link_rate(&speed))
        };
        // Without a common interface the traffic is unknown.
        let common = traffic
            .keys()
            .any(|name| self.previous.traffic.contains_key(name));
        let rates = common
            .then(|| network::rates(&self.previous.traffic, &traffic, sample.over, rate))
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

/// Returns true if `/proc/PID/net` shows this process's network namespace, the only one that `/sys/class/net` shows.
fn is_own_network(folder: &Path) -> bool {
    let namespace = |net: &Path| fs::read_link(net.parent()?.join("ns/net")).ok();
    folder == Path::new("/proc/net")
        || namespace(folder)
            .is_some_and(|other| Some(other) == namespace(Path::new("/proc/self/net")))
}

/// Returns the open descriptors as a fraction of the process's limit; `None` if the process has ended.
fn process_descriptors(pid: u32) -> Option<f64> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    // Since Linux 6.2 the size of the folder is the number of descriptors; older kernels report 0.
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
        let is_fraction =
            |value: Option<f64>| value.is_some_and(|value| (0.0..=1.0).contains(&value));
        assert!(is_fraction(sample.host_cpu), "{sample:?}");
        assert!(is_fraction(sample.host_memory), "{sample:?}");
        assert!(is_fraction(sample.file_descriptors), "{sample:?}");
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
    fn a_missing_subject_is_unknown_and_not_the_host() {
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
