//! A broker: Mosquitto with a CPU limit of its own, a program that works on each message, and a reporter beside it.

use std::{process::Command, time::Duration};

use anyhow::Context as _;
use lb_tests::{
    Backend, Cgroup, Host, Limits, Process, Real, binary,
    server::{Mosquitto, Server},
};

use super::schedule::{Edge, Fault};

/// Port of the brokers.
const PORT: u16 = 1883;
/// Port of the reporters.
pub const REPORT_PORT: u16 = 7946;
/// How long a reporter may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// Works on every message that the broker receives, byte by byte. Mosquitto alone spends 10 µs on a message: more
/// clients than this testbed has would be needed to see its load.
const WORKER: &str = "while :; do mosquitto_sub -h 127.0.0.1 -t '#'; sleep 1; done 2>&1 | \
    while read -r message; do :; done";
/// Takes all the CPU time there is.
const CPU_HOG: &str = "while :; do :; done";

/// The processes of a broker. They are ended in this order.
pub struct Broker {
    name: String,
    cpu_hog: Option<Process>,
    worker: Option<Process>,
    /// `None` while the broker is killed.
    mosquitto: Option<Mosquitto>,
    reporter: Option<Process>,
    /// The CPU limit, if control groups are available.
    cgroup: Option<Cgroup>,
}

/// Makes `host` a real of `vips`, with a broker of this number, counted from 0. With `cores`, the broker is limited to
/// as much CPU time, and a reporter says how much of it is used.
pub fn start(
    host: Host,
    vips: &[&str],
    number: usize,
    cores: Option<f64>,
) -> anyhow::Result<Backend<Broker>> {
    // Before the host is confined: packets to the real are not handled within the broker's limit.
    let real = Some(Real::start(&host, "eth0", vips)?);
    Ok(Backend {
        server: Broker::confined(&host, number, cores)?,
        real,
        host,
    })
}

impl Broker {
    fn confined(host: &Host, number: usize, cores: Option<f64>) -> anyhow::Result<Self> {
        let cgroup = cores
            .map(|cores| {
                Cgroup::new(Limits {
                    cores: Some(cores),
                    memory: None,
                })
            })
            .transpose()?;
        // The reporter is started before the host is confined, so it is not limited itself.
        let reporter = match &cgroup {
            Some(cgroup) => {
                let reporter = start_reporter(host, cgroup)?;
                host.confine(cgroup.clone());
                Some(reporter)
            }
            None => None,
        };
        let name = name(number);
        let mosquitto = Mosquitto::start_named(host, PORT, &name)?;
        let worker = match cgroup {
            Some(_) => Some(host.start("the worker on messages", "sh", ["-c", WORKER])?),
            None => None,
        };
        Ok(Self {
            name,
            cpu_hog: None,
            worker,
            mosquitto: Some(mosquitto),
            reporter,
            cgroup,
        })
    }

    /// Begins or ends a fault of the broker on `host`.
    pub fn apply(&mut self, host: &Host, fault: Fault, edge: Edge) -> anyhow::Result<()> {
        match (fault, edge) {
            (Fault::CpuLoad, Edge::Begin) => {
                let mut command = Command::new("sh");
                command.args(["-c", CPU_HOG]);
                self.cgroup
                    .as_ref()
                    .context("a broker without a CPU limit cannot be loaded")?
                    .confine(&mut command)?;
                self.cpu_hog = Some(Process::start("the CPU hog", command)?);
            }
            (Fault::CpuLoad, Edge::End) => drop(self.cpu_hog.take()),
            (Fault::Freeze, Edge::Begin) => self.running()?.freeze()?,
            (Fault::Freeze, Edge::End) => self.running()?.thaw()?,
            (Fault::Kill, Edge::Begin) => {
                if let Some(mut mosquitto) = self.mosquitto.take() {
                    mosquitto.kill()?;
                }
            }
            (Fault::Kill, Edge::End) => {
                self.mosquitto = Some(Mosquitto::start_named(host, PORT, &self.name)?);
            }
        }
        Ok(())
    }

    /// Resumes the broker if it is frozen: clients that want to leave wait for its answer.
    pub fn thaw(&self) {
        if let Some(mosquitto) = &self.mosquitto {
            // One that has ended keeps no client waiting.
            let _ = mosquitto.thaw();
        }
    }

    fn others(&mut self) -> impl Iterator<Item = &mut Process> {
        let Self {
            cpu_hog,
            worker,
            reporter,
            ..
        } = self;
        cpu_hog.iter_mut().chain(worker).chain(reporter)
    }

    fn running(&self) -> anyhow::Result<&Mosquitto> {
        self.mosquitto.as_ref().context("the broker does not run")
    }
}

impl Server for Broker {
    fn check(&mut self) -> anyhow::Result<()> {
        for process in self.others() {
            process.check()?;
        }
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.check(),
            None => Ok(()),
        }
    }

    fn ask_to_end(&mut self) {
        for process in self.others() {
            process.ask_to_end();
        }
        if let Some(mosquitto) = &mut self.mosquitto {
            mosquitto.ask_to_end();
        }
    }
}

fn start_reporter(host: &Host, cgroup: &Cgroup) -> anyhow::Result<Process> {
    let path = cgroup.path();
    let listen = [
        format!("http://{}:{REPORT_PORT}", host.v4),
        format!("http://[{}]:{REPORT_PORT}", host.v6),
    ];
    let words = [
        "report",
        "--interval",
        "500ms",
        "--cgroup",
        &path,
        "--listen",
    ]
    .into_iter()
    .chain(listen.iter().map(String::as_str));
    let mut reporter = host.start("lb-agent report", binary("lb-agent")?, words)?;
    reporter.wait_line("lb-agent report", "ready", START)?;
    Ok(reporter)
}

/// Returns the name under which a broker introduces itself to its clients.
fn name(number: usize) -> String {
    format!("broker{}", number + 1)
}

/// Returns the number, counted from 0, of the broker with this name.
pub fn number(name: &str) -> Option<usize> {
    name.strip_prefix("broker")?
        .parse::<usize>()
        .ok()?
        .checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_known_by_its_name() {
        for broker in [0, 3, 11] {
            assert_eq!(number(&name(broker)), Some(broker));
        }
        for other in ["broker0", "broker", "nginx1", ""] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
