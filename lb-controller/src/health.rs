//! Health checks of instances, by the probes of `lb-clients`.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use lb_clients::{
    health::{
        Verdict,
        runner::{FirstProbe, ProbeConfig, Runner},
        state::{Health, State},
    },
    peer::Target,
};
use lb_model::{
    check::Check,
    pool::InstanceName,
    vip::{Protocol, VipKey},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::pool;

/// Reports that wait for a busy pool.
const REPORTS: usize = 64;

/// The probes of a pool's instances.
#[derive(Debug)]
pub struct Probes {
    slots: Arc<Semaphore>,
    reports: mpsc::Sender<(InstanceName, pool::Health)>,
    running: HashMap<InstanceName, Probe>,
}

/// The probes of one instance. Its results carry its name, so those of a predecessor are not taken for its own.
#[derive(Debug)]
struct Probe {
    check: Check,
    runner: Runner,
    forwarding: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

impl Probes {
    /// No probes, and where results come; all pools share `slots`.
    #[must_use]
    pub fn new(slots: Arc<Semaphore>) -> (Self, mpsc::Receiver<(InstanceName, pool::Health)>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let probes = Probes {
            slots,
            reports,
            running: HashMap::new(),
        };
        (probes, receiver)
    }

    /// Drops the probes that have ended by themselves, which is a fault of this program, and names their instances. They are
    /// started again with the next [`Probes::set`].
    pub fn drop_ended(&mut self) -> Vec<InstanceName> {
        let mut ended = Vec::new();
        self.running.retain(|name, probe| {
            let has_ended = probe.runner.has_ended() || probe.forwarding.is_finished();
            if has_ended {
                ended.push(name.clone());
            }
            !has_ended
        });
        ended
    }

    /// Probes exactly these instances; the probes that are new begin as each says. A check's port that is `first_port`, that of
    /// the pool's first instance, stands for the instance's own.
    pub fn set<'a>(
        &mut self,
        check: Option<&Check>,
        first_port: u16,
        instances: impl Iterator<Item = (&'a InstanceName, SocketAddr, FirstProbe)>,
    ) {
        let Some(check) = check else {
            self.running.clear();
            return;
        };
        let wanted: HashMap<&InstanceName, (SocketAddr, FirstProbe)> = instances
            .map(|(name, endpoint, first)| (name, (endpoint, first)))
            .collect();
        self.running
            .retain(|name, probe| wanted.contains_key(name) && probe.check == *check);
        for (name, (endpoint, first)) in wanted {
            if !self.running.contains_key(name) {
                let probe = self.start(check, first_port, name, endpoint, first);
                self.running.insert(name.clone(), probe);
            }
        }
    }

    fn start(
        &self,
        check: &Check,
        first_port: u16,
        name: &InstanceName,
        endpoint: SocketAddr,
        first: FirstProbe,
    ) -> Probe {
        let (sender, mut results) = mpsc::channel(1);
        let vip = VipKey::new(endpoint.ip(), endpoint.port(), Protocol::Tcp);
        let other = check.port.filter(|port| *port != first_port);
        let port = other.unwrap_or(endpoint.port());
        let config = ProbeConfig {
            check: check.clone(),
            target: Target {
                address: SocketAddr::new(endpoint.ip(), port),
                mark: None,
            },
        };
        let runner = Runner::start(
            vip,
            endpoint.ip().into(),
            config,
            Health::new(Instant::now()),
            first,
            Arc::clone(&self.slots),
            sender,
        );
        let (name, reports) = (name.clone(), self.reports.clone());
        let forwarding = tokio::spawn(async move {
            while let Some(report) = results.recv().await {
                let health = pool::Health {
                    is_up: match report.state {
                        State::Unknown => None,
                        State::Up | State::Drain => Some(true),
                        State::Down => Some(false),
                    },
                    is_success: match report.outcome.verdict {
                        Verdict::Inconclusive => None,
                        verdict => Some(verdict.is_alive()),
                    },
                    wants_drain: report.state == State::Drain,
                    reason: report.outcome.reason,
                    latency: report.outcome.latency,
                };
                if reports.send((name.clone(), health)).await.is_err() {
                    return;
                }
            }
        });
        Probe {
            check: check.clone(),
            runner,
            forwarding,
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_model::component::Component;

    use super::*;

    #[test]
    fn a_probe_that_panics_is_named_and_started_again() {
        // A runtime without clock and sockets: the tasks panic as soon as they want to wait.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut probes, _results) = Probes::new(Arc::new(Semaphore::new(1)));
            let check = Check::new(Component::named("tcp"));
            let name: InstanceName = "web-1-1".parse().unwrap();
            let endpoint = "127.0.0.1:1".parse().unwrap();
            for _ in 0..2 {
                let one = (&name, endpoint, FirstProbe::AtOnce);
                probes.set(Some(&check), 1, std::iter::once(one));
                assert_eq!(probes.running.len(), 1);
                let mut ended = Vec::new();
                while ended.is_empty() {
                    tokio::task::yield_now().await;
                    ended = probes.drop_ended();
                }
                assert_eq!(ended, std::slice::from_ref(&name));
            }
        });
    }
}
