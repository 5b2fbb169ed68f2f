//! A broker: Mosquitto on a host with a part of a core of its own, a program there that works on each message, and
//! a reporter beside it.

use std::{process::Command, time::Duration};

use anyhow::Context as _;
use lb_tests::{Cgroup, Host, Limits, Process, Real, Site, binary, server::Mosquitto};

use super::script::Deed;

/// Where brokers listen.
const PORT: u16 = 1883;
/// Where reporters listen.
pub const REPORT_PORT: u16 = 7946;
/// How long a reporter may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// Works on every message that the broker gets, byte by byte. Mosquitto alone takes 10 µs for a message: it would
/// take more clients than a laboratory has to see its load.
const WORKER: &str = "while :; do mosquitto_sub -h 127.0.0.1 -t '#'; sleep 1; done 2>&1 | \
    while read -r message; do :; done";
/// Wants all the CPU there is.
const HOG: &str = "while :; do :; done";

/// A broker and its host. What ends first stands first.
pub struct Broker {
    name: String,
    hog: Option<Process>,
    worker: Option<Process>,
    mosquitto: Option<Mosquitto>,
    reporter: Option<Process>,
    cgroup: Option<Cgroup>,
    real: Real,
    host: Host,
}

impl Broker {
    /// Makes a host, a real of `vips`, with a broker of this number, from 0. With `cores` the host has as much
    /// CPU and tells how much of it is used.
    pub fn start(
        site: &Site,
        vips: &[&str],
        number: usize,
        cores: Option<f64>,
    ) -> anyhow::Result<Self> {
        let host = site.real()?;
        let real = Real::start(&host, "eth0", vips)?;
        let cgroup = cores
            .map(|cores| {
                Cgroup::new(Limits {
                    cores: Some(cores),
                    memory: None,
                })
            })
            .transpose()?;
        // What is started from then on is confined: the reporter is not.
        let reporter = match &cgroup {
            Some(cgroup) => {
                let reporter = report(&host, cgroup)?;
                host.confine(cgroup.clone());
                Some(reporter)
            }
            None => None,
        };
        let name = name(number);
        let mosquitto = Mosquitto::start_named(&host, PORT, &name)?;
        let worker = match cgroup {
            Some(_) => Some(host.start("what works on messages", "sh", ["-c", WORKER])?),
            None => None,
        };
        Ok(Self {
            hog: None,
            worker,
            mosquitto: Some(mosquitto),
            reporter,
            cgroup,
            real,
            name,
            host,
        })
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Does this to it.
    pub fn suffer(&mut self, deed: Deed) -> anyhow::Result<()> {
        match deed {
            Deed::Load => {
                let mut command = Command::new("sh");
                command.args(["-c", HOG]);
                self.cgroup
                    .as_ref()
                    .context("a broker without a limit cannot be loaded")?
                    .confine(&mut command)?;
                self.hog = Some(Process::start("what loads a broker", command)?);
            }
            Deed::Relieve => drop(self.hog.take()),
            Deed::Freeze => self.running()?.freeze()?,
            Deed::Thaw => self.running()?.thaw()?,
            Deed::Kill => {
                if let Some(mut mosquitto) = self.mosquitto.take() {
                    mosquitto.kill()?;
                }
            }
            Deed::Revive => {
                self.mosquitto = Some(Mosquitto::start_named(&self.host, PORT, &self.name)?);
            }
        }
        Ok(())
    }

    /// Lets it go on, if it was frozen: clients that want to leave wait for it.
    pub fn thaw(&self) {
        if let Some(mosquitto) = &self.mosquitto {
            // One that has ended keeps nobody waiting.
            let _ = mosquitto.thaw();
        }
    }

    /// Whether everything still runs that should.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.real.check()?;
        for process in self.beside() {
            process.check()?;
        }
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.check(),
            None => Ok(()),
        }
    }

    /// Asks all of it to end and does not wait.
    pub fn ask_to_end(&mut self) {
        self.real.ask_to_end();
        for process in self.beside() {
            process.ask_to_end();
        }
        if let Some(mosquitto) = &mut self.mosquitto {
            mosquitto.ask_to_end();
        }
    }

    fn beside(&mut self) -> impl Iterator<Item = &mut Process> {
        let Self {
            hog,
            worker,
            reporter,
            ..
        } = self;
        hog.iter_mut().chain(worker).chain(reporter)
    }

    fn running(&self) -> anyhow::Result<&Mosquitto> {
        self.mosquitto.as_ref().context("the broker does not run")
    }
}

fn report(host: &Host, cgroup: &Cgroup) -> anyhow::Result<Process> {
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

/// What a broker calls itself.
fn name(number: usize) -> String {
    format!("broker{}", number + 1)
}

/// The number, from 0, of the broker that calls itself so.
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
