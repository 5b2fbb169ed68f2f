//! The groups of clients, on two hosts: one for IPv4, one for IPv6.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use lb_tests::{
    Host,
    client::{Connections, DevicePlan, Devices, HttpPlan, Load, LoadReport, http_load},
};

use super::{broker, fault_window::Outage};
use crate::clients::Client;

/// MQTT devices of a VIP that stay connected, and those that come and go. The latter open the new connections that
/// follow the shares at once.
const STAYING: usize = 30;
const VISITING: usize = 30;
/// How long a visiting device stays.
const VISIT: Duration = Duration::from_secs(5);
/// Interval between two messages of a device.
const PUBLISHING: Duration = Duration::from_millis(200);
/// Size of a message, in bytes.
const PAYLOAD: usize = 800;

/// All clients. They stop when this is dropped.
#[derive(Default)]
pub struct Clients(Vec<Group>);

struct Group {
    name: &'static str,
    vip: &'static str,
    outages: u64,
    work: Work,
}

enum Work {
    Requests(Load),
    Devices(Devices),
}

impl Clients {
    /// Starts the clients of an HTTP VIP on a host.
    pub fn start_http(&mut self, host: &Host, vip: &'static str, target: SocketAddr) {
        for (name, connections, workers) in [
            ("HTTP on kept connections", Connections::Kept, 12),
            ("HTTP on new connections", Connections::New, 4),
        ] {
            let plan = HttpPlan {
                target,
                workers,
                connections,
                pause: Duration::from_millis(10),
                requests: None,
            };
            self.add(name, vip, Work::Requests(http_load(host, plan)));
        }
    }

    /// Starts the devices of an MQTT VIP on a host.
    pub fn start_mqtt(&mut self, host: &Host, vip: &'static str, target: SocketAddr) {
        for (name, devices, stay) in [
            ("MQTT devices that stay", STAYING, None),
            ("MQTT devices that come and go", VISITING, Some(VISIT)),
        ] {
            let plan = DevicePlan {
                target,
                devices,
                stay,
                pause: PUBLISHING,
                payload: PAYLOAD,
            };
            self.add(name, vip, Work::Devices(Devices::start(host, plan)));
        }
    }

    fn add(&mut self, name: &'static str, vip: &'static str, work: Work) {
        self.0.push(Group {
            name,
            vip,
            outages: 0,
            work,
        });
    }

    /// Returns what they have recorded so far.
    pub fn reports(&self) -> Vec<Client> {
        self.0
            .iter()
            .map(|group| group.client(group.work.report()))
            .collect()
    }

    /// Returns the outages that have ended since the last call, and all that last. Times are since `begin`.
    pub fn take_outages(&mut self, begin: Instant) -> Vec<Outage> {
        let mut all = Vec::new();
        for group in &mut self.0 {
            let Work::Devices(devices) = &group.work else {
                continue;
            };
            let outages = devices.take_outages();
            let over = outages.iter().filter(|outage| outage.ended.is_some());
            group.outages += over.count() as u64;
            let since = |moment: Instant| moment.saturating_duration_since(begin);
            all.extend(outages.into_iter().map(|outage| Outage {
                broker: outage.from.as_deref().and_then(broker::number),
                began: since(outage.began),
                ended: outage.ended.map(since),
                why: outage.why,
            }));
        }
        all
    }

    /// Asks them to finish what they have begun and to stop, without waiting.
    pub fn ask_to_stop(&self) {
        for group in &self.0 {
            match &group.work {
                Work::Requests(load) => load.ask_to_stop(),
                Work::Devices(devices) => devices.ask_to_stop(),
            }
        }
    }

    /// Lets them finish what they have begun, and returns what they have recorded.
    pub fn stop(&mut self) -> anyhow::Result<Vec<Client>> {
        self.ask_to_stop();
        self.0
            .drain(..)
            .map(|group| {
                let (name, vip, outages) = (group.name, group.vip, group.outages());
                let record = match group.work {
                    Work::Requests(load) => load.stop()?,
                    Work::Devices(devices) => devices.stop()?,
                };
                Ok(Client {
                    name: name.to_owned(),
                    vip: vip.to_owned(),
                    outages,
                    record,
                })
            })
            .collect()
    }
}

impl Group {
    fn client(&self, record: LoadReport) -> Client {
        Client {
            name: self.name.to_owned(),
            vip: self.vip.to_owned(),
            outages: self.outages(),
            record,
        }
    }

    fn outages(&self) -> Option<u64> {
        matches!(self.work, Work::Devices(_)).then_some(self.outages)
    }
}

impl Work {
    fn report(&self) -> LoadReport {
        match self {
            Self::Requests(load) => load.report(),
            Self::Devices(devices) => devices.report(),
        }
    }
}
