//! MQTT devices. Each keeps a connection, publishes periodically, and reconnects when the connection breaks. Devices
//! learn the name of their broker, so that outages can be attributed to brokers.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use futures::future::{Either, join_all, select};
use rumqttc::{
    NetworkOptions, Outgoing,
    v5::{
        AsyncClient, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{QoS, v5::ConnAck},
    },
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    REQUEST_TIMEOUT,
    load::{Load, LoadReport, Record},
};
use crate::Namespace;

/// How long a device waits until a broker has accepted it. After its CONNECT a device sends nothing until it is
/// answered, so the balancer cannot reset its connection to a dead broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(250);

/// Keep-alive interval: after this time without a packet a device sends a PINGREQ. The library accepts no less.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Greatest number of unacknowledged messages of a device; Mosquitto allows 20.
const IN_FLIGHT: usize = 20;

/// Time over which the first connections of devices that stay are spread.
const GATHERING: Duration = Duration::from_secs(2);

/// Outages that are kept until they are taken; beyond that, the oldest are discarded.
const KEPT_OUTAGES: usize = 10_000;

/// What devices do.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// Number of devices.
    pub devices: usize,
    /// Time after which a device leaves and connects again; `None` if it stays.
    pub stay: Option<Duration>,
    /// Interval between two messages (QoS 1) of a device. A device does not wait for acknowledgements.
    pub pause: Duration,
    /// Payload of each message, in bytes.
    pub payload: usize,
}

/// A time in which a device was disconnected against its will.
#[derive(Clone, Debug)]
pub struct Outage {
    /// The broker that the device was connected to; `None` if it could not connect in the first place.
    pub from: Option<String>,
    /// When it began.
    pub began: Instant,
    /// The device's error.
    pub why: String,
    /// When it was over; `None` if it lasts.
    pub ended: Option<Instant>,
}

/// Running devices. Dropping the value stops them. A request is a connect or an acknowledged publish; failures are
/// reported by [`Devices::take_outages`] and not counted as requests.
#[derive(Debug)]
pub struct Devices {
    load: Load,
    journal: Arc<Journal>,
}

/// The outages under way, by device, and those that are over.
#[derive(Debug)]
struct Journal(Mutex<Outages>);

#[derive(Debug)]
struct Outages {
    open: Vec<Option<Outage>>,
    over: VecDeque<Outage>,
}

impl Devices {
    /// Starts the devices in `namespace`.
    pub fn start(namespace: &Namespace, plan: DevicePlan) -> Self {
        let journal = Arc::new(Journal::new(plan.devices));
        let shared = Arc::clone(&journal);
        let load = Load::start(namespace, move |record| async move {
            join_all((0..plan.devices).map(|number| device(&plan, number, &record, &shared))).await;
        });
        Self { load, journal }
    }

    /// Returns what the devices have recorded so far.
    pub fn report(&self) -> LoadReport {
        self.load.report()
    }

    /// Returns the outages that have ended since the last call, then those under way.
    pub fn take_outages(&self) -> Vec<Outage> {
        let mut outages = self.journal.lock();
        let mut taken: Vec<Outage> = outages.over.drain(..).collect();
        taken.extend(outages.open.iter().flatten().cloned());
        taken
    }

    /// Asks the devices to finish what they have begun and to stop, without waiting.
    pub fn ask_to_stop(&self) {
        self.load.ask_to_stop();
    }

    /// Lets the devices disconnect, and returns the record.
    ///
    /// # Errors
    /// Fails if the devices could not run at all.
    pub fn stop(self) -> anyhow::Result<LoadReport> {
        self.load.stop()
    }
}

impl Journal {
    fn new(devices: usize) -> Self {
        Self(Mutex::new(Outages {
            open: vec![None; devices],
            over: VecDeque::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Outages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a device has lost its connection or could not connect.
    fn lost(&self, device: usize, from: Option<String>, error: &anyhow::Error) {
        self.lock().open[device].get_or_insert_with(|| Outage {
            from,
            began: Instant::now(),
            // The library's errors repeat the text of their causes.
            why: error.root_cause().to_string(),
            ended: None,
        });
    }

    /// Records that a device is connected.
    fn connected(&self, device: usize) {
        let mut outages = self.lock();
        let Some(mut outage) = outages.open[device].take() else {
            return;
        };
        outage.ended = Some(Instant::now());
        if outages.over.len() == KEPT_OUTAGES {
            outages.over.pop_front();
        }
        outages.over.push_back(outage);
    }
}

impl DevicePlan {
    /// Returns when a device first connects. The times are spread, so that devices neither arrive nor leave together.
    fn begin(&self, device: usize) -> Duration {
        self.stay
            .unwrap_or(GATHERING)
            .mul_f64(device as f64 / self.devices.max(1) as f64)
    }
}

async fn device(plan: &DevicePlan, number: usize, record: &Record, journal: &Journal) {
    sleep(plan.begin(number)).await;
    while !record.stopped() {
        let mut broker = None;
        if let Err(error) = session(plan, number, record, journal, &mut broker).await {
            journal.lost(number, broker, &error);
            sleep(RETRY).await;
        }
    }
}

/// Runs one connection. `broker` is set to the broker's name once it is known.
async fn session(
    plan: &DevicePlan,
    number: usize,
    record: &Record,
    journal: &Journal,
    broker: &mut Option<String>,
) -> anyhow::Result<()> {
    // The broker assigns an identifier to a client without one (MQTT 5.0, section 3.2.2.3.7).
    let mut options = MqttOptions::new("", plan.target.ip().to_string(), plan.target.port());
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut events) = AsyncClient::new(options, IN_FLIGHT);

    let begin = Instant::now();
    let accepted = accepted(&mut events)
        .await
        .with_context(|| format!("connecting to {}", plan.target))?;
    *broker = name(&accepted);
    // Before the connection is counted, so that no outage that is over is seen as open.
    journal.connected(number);
    record.connected(broker.as_deref());
    record.answered(number, begin);

    let waiting = RefCell::new(VecDeque::new());
    let publishing = std::pin::pin!(publish(plan, number, record, &client, &waiting));
    let receiving = std::pin::pin!(receive(&mut events, number, record, &waiting));
    match select(publishing, receiving).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    }
}

/// Waits until the broker accepts the connection.
async fn accepted(events: &mut EventLoop) -> anyhow::Result<ConnAck> {
    loop {
        if let Event::Incoming(Incoming::ConnAck(answer)) = events.poll().await? {
            return Ok(answer);
        }
    }
}

/// Returns the broker's name, which begins the identifier that it has assigned.
fn name(answer: &ConnAck) -> Option<String> {
    let identifier = answer
        .properties
        .as_ref()?
        .assigned_client_identifier
        .as_deref()?;
    Some(identifier.split_once('.')?.0.to_owned())
}

/// Publishes until it is time to leave, and disconnects. `waiting` has the times at which unacknowledged messages were
/// sent.
async fn publish(
    plan: &DevicePlan,
    number: usize,
    record: &Record,
    client: &AsyncClient,
    waiting: &RefCell<VecDeque<Instant>>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let leaves = || record.stopped() || plan.stay.is_some_and(|stay| begin.elapsed() >= stay);
    let late = || {
        let waiting = waiting.borrow();
        waiting
            .front()
            .is_some_and(|sent| sent.elapsed() >= REQUEST_TIMEOUT)
    };
    let mut clock = interval(plan.pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let on_their_way = waiting.borrow().len();
        // A device leaves when no message is unacknowledged, and publishes until then: a silent client would not
        // notice that the balancer resets its connection to a dead broker.
        if leaves() && on_their_way == 0 {
            break;
        }
        if late() {
            bail!("waited {REQUEST_TIMEOUT:?} for an acknowledgement");
        }
        if on_their_way < IN_FLIGHT {
            waiting.borrow_mut().push_back(Instant::now());
            let payload = vec![b'x'; plan.payload];
            client
                .publish(
                    format!("devices/{number}"),
                    QoS::AtLeastOnce,
                    false,
                    payload,
                )
                .await?;
        }
    }
    client.disconnect().await?;
    // `receive` ends once the packet has been sent.
    pending().await
}

async fn receive(
    events: &mut EventLoop,
    number: usize,
    record: &Record,
    waiting: &RefCell<VecDeque<Instant>>,
) -> anyhow::Result<()> {
    loop {
        match events.poll().await? {
            Event::Incoming(Incoming::PubAck(_)) => {
                if let Some(sent) = waiting.borrow_mut().pop_front() {
                    record.answered(number, sent);
                }
            }
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_from_the_first_failure_to_the_next_connection() {
        let journal = Journal::new(2);
        let error = anyhow::anyhow!("reset");
        journal.lost(1, Some("broker2".to_owned()), &error);
        journal.lost(1, None, &anyhow::anyhow!("refused"));
        {
            let outages = journal.lock();
            let open = outages.open[1].as_ref().unwrap();
            assert_eq!(open.from.as_deref(), Some("broker2"));
            assert_eq!(open.why, "reset");
            assert!(open.ended.is_none() && outages.over.is_empty());
        }
        journal.connected(1);
        journal.connected(1);
        let outages = journal.lock();
        assert!(outages.open.iter().all(Option::is_none));
        assert_eq!(outages.over.len(), 1);
        assert!(outages.over[0].ended.is_some());
    }

    #[test]
    fn devices_connect_one_after_the_other() {
        let plan = DevicePlan {
            target: ([192, 0, 2, 20], 1883).into(),
            devices: 4,
            stay: Some(Duration::from_secs(4)),
            pause: Duration::from_millis(100),
            payload: 1,
        };
        let begins: Vec<u64> = (0..4).map(|device| plan.begin(device).as_secs()).collect();
        assert_eq!(begins, [0, 1, 2, 3]);
    }
}
