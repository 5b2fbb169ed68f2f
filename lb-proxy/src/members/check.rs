//! Health checks of the instances that a service lists, by the probes of `lb-clients`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use lb_clients::{
    health::{
        Verdict,
        runner::{FirstProbe, ProbeConfig, Report, Runner, slots_within},
        state,
    },
    peer::Target,
};
use lb_model::{
    check::Check,
    vip::{Protocol, VipKey},
};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    sync::{Semaphore, mpsc},
    time::MissedTickBehavior,
};

use super::Task;
use crate::{
    proxy::Shared,
    service::{Entry, Instance, Probed, Service, State},
    trouble::Kind,
};

/// How often the probes themselves are looked after.
const LOOK: Duration = Duration::from_secs(1);
/// One in so many of the files that may be open is for probes, at most, but never fewer than `LEAST_PROBES`: most files are
/// for clients and their instances.
const SHARE: u64 = 16;
const LEAST_PROBES: usize = 32;

/// Room for the probes of all services that run at the same time.
pub fn slots() -> Arc<Semaphore> {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(files, _)| files);
    let share = usize::try_from(files / SHARE).unwrap_or(usize::MAX);
    let room = slots_within(files).min(share.max(LEAST_PROBES));
    Arc::new(Semaphore::new(room))
}

/// Probes the instances of a service as its settings say, until this is dropped.
pub async fn follow(service: Arc<Service>, shared: Arc<Shared>, slots: Arc<Semaphore>) {
    let mut changes = service.changes();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probes = Probes {
        service: Arc::clone(&service),
        shared,
        slots,
        running: HashMap::new(),
    };
    loop {
        changes.borrow_and_update();
        probes.set();
        tokio::select! {
            changed = changes.changed() => {
                // The service, which tells of changes, lives as long as this.
                if changed.is_err() {
                    return;
                }
            }
            _ = looks.tick(), if !probes.running.is_empty() => probes.drop_ended(),
        }
    }
}

/// The probes of a service's instances.
struct Probes {
    service: Arc<Service>,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    running: HashMap<SocketAddr, Probe>,
}

/// The probes of one instance.
struct Probe {
    instance: Arc<Instance>,
    runner: Runner,
    reading: Task,
}

impl Probes {
    /// Probes exactly the instances that there are. Probes that stay keep what they know, also if the check is another one.
    fn set(&mut self) {
        let check = self.service.settings.load().check.clone();
        let entries = self.service.entries();
        let Some(check) = check else {
            self.running.clear();
            for entry in entries.iter().filter(|entry| entry.health.is_some()) {
                self.service.note_health(&entry.instance, None);
            }
            return;
        };
        let wanted: HashMap<SocketAddr, &Entry> = entries
            .iter()
            .map(|entry| (entry.instance.address, entry))
            .collect();
        self.running.retain(|address, probe| {
            wanted
                .get(address)
                .is_some_and(|entry| Arc::ptr_eq(&entry.instance, &probe.instance))
        });
        for (address, entry) in wanted {
            let config = config(&check, address);
            match self.running.get(&address) {
                Some(probe) => probe.runner.replace(config),
                None => {
                    let probe = self.start(entry, config);
                    self.running.insert(address, probe);
                }
            }
        }
    }

    fn start(&self, entry: &Entry, config: ProbeConfig) -> Probe {
        let (sender, mut reports) = mpsc::channel(1);
        let address = entry.instance.address;
        let is_down = |health: &Arc<crate::service::Health>| health.state == State::Down;
        let known = match entry.health.as_ref().is_some_and(is_down) {
            true => state::Health::dead(Instant::now()),
            false => state::Health::new(Instant::now()),
        };
        let slots = Arc::clone(&self.slots);
        let runner = Runner::start(
            key(address),
            address.ip().into(),
            config,
            known,
            // It gets requests already, and is not to be down because it answers a hasty probe late.
            FirstProbe::Spread,
            slots,
            sender,
        );
        let (service, shared) = (Arc::clone(&self.service), Arc::clone(&self.shared));
        let instance = Arc::clone(&entry.instance);
        let reading = tokio::spawn({
            let instance = Arc::clone(&instance);
            async move {
                while let Some(report) = reports.recv().await {
                    note(&service, &shared, &instance, &report);
                }
            }
        });
        Probe {
            instance,
            runner,
            reading: Task(reading),
        }
    }

    /// Drops the probes that have ended by themselves, which is a fault of this program. They are started again with the next
    /// [`Probes::set`].
    fn drop_ended(&mut self) {
        let service = &self.service.name;
        self.running.retain(|address, probe| {
            let has_ended = probe.runner.has_ended() || probe.reading.0.is_finished();
            if has_ended {
                tracing::error!(
                    "service {service}: the health check of instance {address} panicked, which is a fault of this program; it is \
                     started again"
                );
            }
            !has_ended
        });
    }
}

fn key(address: SocketAddr) -> VipKey {
    VipKey::new(address.ip(), address.port(), Protocol::Tcp)
}

fn config(check: &Check, address: SocketAddr) -> ProbeConfig {
    let port = check.port.unwrap_or(address.port());
    ProbeConfig {
        check: check.clone(),
        target: Target {
            address: SocketAddr::new(address.ip(), port),
            mark: None,
        },
    }
}

/// What a report makes of an instance; `None`: nothing new. An instance is up until its first result; like HAProxy, the first
/// failure of all is enough to take it down.
const fn state_of(state: state::State, verdict: Verdict) -> Option<State> {
    match (state, verdict) {
        (_, Verdict::Inconclusive) => None,
        (state::State::Up, _) => Some(State::Up),
        (state::State::Drain, _) | (state::State::Unknown, Verdict::Drain) => Some(State::Draining),
        (state::State::Down, _) | (state::State::Unknown, Verdict::Unhealthy) => Some(State::Down),
        (state::State::Unknown, Verdict::Healthy) => None,
    }
}

fn note(service: &Service, shared: &Shared, instance: &Arc<Instance>, report: &Report) {
    let probed = match report.outcome.verdict {
        Verdict::Healthy => Probed::Healthy,
        Verdict::Drain => Probed::Drain,
        Verdict::Unhealthy => Probed::Unhealthy,
        Verdict::Inconclusive => Probed::Inconclusive,
    };
    service.probes[probed as usize].fetch_add(1, Relaxed);
    let (name, address, reason) = (&service.name, instance.address, &report.outcome.reason);
    if probed == Probed::Inconclusive {
        let what =
            format_args!("the health check of instance {address} of service {name}: {reason}");
        shared.troubles.observe(Kind::Checks, what);
        return;
    }
    let Some(state) = state_of(report.state, report.outcome.verdict) else {
        return;
    };
    // A report may have been on its way when the check was removed.
    if service.settings.load().check.is_none() {
        return;
    }
    if service
        .note_health(instance, Some((state, reason)))
        .is_none()
    {
        return;
    }
    match state {
        State::Up => {
            tracing::info!("service {name}: instance {address} is up again by its health check");
        }
        State::Draining => tracing::warn!(
            "service {name}: instance {address} wants to be drained by its health check: {reason}"
        ),
        State::Down => {
            tracing::warn!(
                "service {name}: instance {address} is down by its health check: {reason}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, service::Member};

    fn checked_service() -> Arc<Service> {
        let mut map = lb_model::settings::Map::new();
        map.insert("name".to_owned(), "s".into());
        map.insert("check".to_owned(), serde_json::json!({ "kind": "tcp" }));
        let service = Arc::new(Service::new(lb_model::settings::from_map(&map).unwrap(), 1));
        service.update([Member {
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
            state: State::Up,
        }]);
        service
    }

    #[test]
    fn the_first_failure_takes_an_instance_down_and_own_trouble_never() {
        use state::State as S;
        for (state, verdict, expected) in [
            (S::Unknown, Verdict::Unhealthy, Some(State::Down)),
            (S::Unknown, Verdict::Drain, Some(State::Draining)),
            (S::Unknown, Verdict::Inconclusive, None),
            (S::Up, Verdict::Healthy, Some(State::Up)),
            (S::Up, Verdict::Unhealthy, Some(State::Up)),
            (S::Down, Verdict::Healthy, Some(State::Down)),
            (S::Down, Verdict::Inconclusive, None),
            (S::Drain, Verdict::Healthy, Some(State::Draining)),
        ] {
            assert_eq!(state_of(state, verdict), expected, "{state} {verdict:?}");
        }
    }

    #[test]
    fn a_probe_that_panics_is_started_again_and_keeps_the_state() {
        // A runtime without clock and sockets: the tasks panic as soon as they want to wait.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let service = checked_service();
            let instance = Arc::clone(&service.entries()[0].instance);
            service.note_health(&instance, Some((State::Down, "test")));
            let mut probes = Probes {
                service: Arc::clone(&service),
                shared: Arc::new(Shared::new(Config::default(), 1).unwrap()),
                slots: Arc::new(Semaphore::new(1)),
                running: HashMap::new(),
            };
            for _ in 0..2 {
                probes.set();
                assert_eq!(probes.running.len(), 1);
                while !probes.running.is_empty() {
                    tokio::task::yield_now().await;
                    probes.drop_ended();
                }
                assert_eq!(service.eligible(), 0);
            }
        });
    }
}
