//! Instances that are the reals of a VIP of `lb-agent`: its health checks, load readers and steering decide their weights.
//!
//! `Watch` of `lb.v1` sends a snapshot and then each change. After a break, only what has changed since the last revision
//! comes, if the agent still knows that.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use lb_clients::backoff::Backoff;
use lb_model::vip::VipKey;
use lb_proto::{
    endpoint::{Endpoint, innermost},
    v1::{
        Real, RealState, Vip, VipId, WatchEvent, WatchRequest, balancer_client::BalancerClient,
        watch_event::Event,
    },
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Uri};

use super::{FIRST_PAUSE, LONGEST_PAUSE, file::address_of};
use crate::service::{Member, Service, State};

/// The weight of a real whose operator gave none.
const DEFAULT_WEIGHT: u32 = 100;
/// The longest time for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it lives, and how long that may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

async fn connect(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let configured = |builder: tonic::transport::Endpoint| {
        builder
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
    };
    match endpoint {
        Endpoint::Http(uri) => configured(Channel::builder(uri.clone())).connect().await,
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            // The transport requires the name of a host and does not use it.
            configured(Channel::from_static("http://lb-agent"))
                .connect_with_connector(connector)
                .await
        }
    }
}

/// Keeps a service's instances the reals of a VIP.
pub async fn follow(
    endpoint: &Endpoint,
    vip: VipKey,
    port: Option<u16>,
    service: &Arc<Service>,
) -> ! {
    let mut table = Table::new(vip, port);
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let error = match watch(endpoint, &mut table, service, &mut backoff).await {
            Ok(()) => "the agent ended the stream".to_owned(),
            Err(error) => error,
        };
        let why = format!("reals of {vip} from {endpoint}: {error}");
        service.source.lost(&why);
        tracing::warn!(
            "service {}: {why}; the instances stay as they are",
            service.name
        );
        backoff.wait().await;
    }
}

async fn watch(
    endpoint: &Endpoint,
    table: &mut Table,
    service: &Arc<Service>,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let channel = connect(endpoint).await.map_err(|error| innermost(&error))?;
    let request = WatchRequest {
        id: Some(table.id()),
        since_revision: table.revision,
    };
    let mut events = BalancerClient::new(channel)
        .watch(request)
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    table.begin();
    while let Some(event) = events
        .message()
        .await
        .map_err(|status| status.message().to_owned())?
    {
        if let Some(members) = table.apply(event) {
            backoff.reset();
            service.update(members);
            service.source.followed(table.unreadable());
        }
    }
    Ok(())
}

/// The reals of a VIP, from the events of a stream.
#[derive(Debug)]
struct Table {
    vip: VipKey,
    port: Option<u16>,
    revision: u64,
    reals: BTreeMap<String, Real>,
    /// The VIP of a snapshot that is not complete; `None` after it.
    snapshot: Option<Option<Vip>>,
}

impl Table {
    const fn new(vip: VipKey, port: Option<u16>) -> Self {
        Table {
            vip,
            port,
            revision: 0,
            reals: BTreeMap::new(),
            snapshot: None,
        }
    }

    fn id(&self) -> VipId {
        lb_proto::vip::vip_id(&self.vip)
    }

    /// A stream begins, with a snapshot.
    fn begin(&mut self) {
        self.snapshot = Some(None);
    }

    /// Takes an event. Returns the instances if they are complete and may have changed.
    fn apply(&mut self, event: WatchEvent) -> Option<Vec<Member>> {
        let own = self.id();
        let is_own = |id: &Option<VipId>| id.as_ref() == Some(&own);
        match event.event? {
            Event::Snapshot(vip) if is_own(&vip.id) => {
                self.snapshot = Some(Some(vip));
                return None;
            }
            Event::SnapshotEnd(end) => {
                match self.snapshot.take().flatten() {
                    Some(vip) => self.take(vip),
                    // What did not change does not come again.
                    None if !end.resumed => self.reals.clear(),
                    None => {}
                }
            }
            Event::VipAdded(vip) | Event::VipChanged(vip) if is_own(&vip.id) => self.take(vip),
            Event::VipDeleted(id) if Some(&id) == Some(&own) => self.reals.clear(),
            Event::RealAdded(real) | Event::RealChanged(real) if is_own(&real.vip) => {
                let real = real.real?;
                self.reals.insert(real.address.clone(), real);
            }
            Event::RealDeleted(real) if is_own(&real.vip) => {
                self.reals.remove(&real.real?.address);
            }
            _ => return None,
        }
        if event.revision != 0 {
            self.revision = event.revision;
        }
        // Within a snapshot the table is not complete.
        self.snapshot.is_none().then(|| self.members())
    }

    fn take(&mut self, vip: Vip) {
        self.reals = vip
            .reals
            .into_iter()
            .map(|real| (real.address.clone(), real))
            .collect();
    }

    fn members(&self) -> Vec<Member> {
        let members = self.with_weights(|real| real.effective_weight);
        let serves = |member: &Member| member.state == State::Up && member.weight > 0;
        if members.iter().any(serves) {
            return members;
        }
        // All are held back, as after a start of the agent: the operator's weights are better than no answer. Those that
        // are down or drained stay so.
        self.with_weights(|real| match (real.state(), &real.spec) {
            (RealState::Held, Some(spec)) => spec.weight.unwrap_or(DEFAULT_WEIGHT),
            _ => real.effective_weight,
        })
    }

    fn with_weights(&self, weight: impl Fn(&Real) -> u32) -> Vec<Member> {
        self.reals
            .values()
            .filter_map(|real| {
                Some(Member {
                    address: self.address(&real.address)?,
                    weight: weight(real),
                    state: match real.state() {
                        RealState::Down => State::Down,
                        RealState::Draining => State::Draining,
                        _ => State::Up,
                    },
                })
            })
            .collect()
    }

    /// What is no address, if there is such a real.
    fn unreadable(&self) -> Option<String> {
        let addresses = self.reals.values().map(|real| &real.address);
        let mut wrong = addresses.filter(|text| self.address(text).is_none());
        let first = wrong.next()?;
        Some(format!(
            "{} of its {} reals have no address: {first:?}",
            1 + wrong.count(),
            self.reals.len()
        ))
    }

    /// The service's port counts most; then the real's own, which is the VIP's.
    fn address(&self, text: &str) -> Option<SocketAddr> {
        let mut address = address_of(text, self.port.or(Some(self.vip.port)))?;
        if let Some(port) = self.port {
            address.set_port(port);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use lb_proto::v1::{self, RealEvent, SnapshotEnd};

    use super::{super::texts, *};

    fn table() -> Table {
        let mut table = Table::new(VipKey::from_form("10.0.0.1:80/tcp").unwrap(), None);
        table.begin();
        table
    }

    fn real(address: &str, weight: u32, state: RealState) -> Real {
        Real {
            address: address.to_owned(),
            effective_weight: weight,
            state: state.into(),
            ..Real::default()
        }
    }

    fn vip(reals: &[Real]) -> Vip {
        Vip {
            id: Some(table().id()),
            reals: reals.to_vec(),
            ..Vip::default()
        }
    }

    fn event(event: Event, revision: u64) -> WatchEvent {
        WatchEvent {
            event: Some(event),
            revision,
            ..WatchEvent::default()
        }
    }

    #[test]
    fn a_snapshot_and_its_changes_are_followed() {
        let mut table = table();
        let active = RealState::Active;
        let first = vip(&[
            real("10.0.0.2", 100, active),
            real("10.0.0.3", 50, RealState::Down),
        ]);
        assert_eq!(table.apply(event(Event::Snapshot(first), 7)), None);
        let end = Event::SnapshotEnd(SnapshotEnd { resumed: false });
        let members = table.apply(event(end, 7)).unwrap();
        assert_eq!(
            texts(&members),
            ["10.0.0.2:80 100 up", "10.0.0.3:80 50 down"]
        );
        let changed = RealEvent {
            vip: Some(table.id()),
            real: Some(real("10.0.0.3", 60, RealState::Draining)),
        };
        let members = table.apply(event(Event::RealChanged(changed), 0)).unwrap();
        assert_eq!(texts(&members)[1], "10.0.0.3:80 60 draining");
        assert_eq!(table.revision, 7);
        // The events of others do not matter.
        let other = RealEvent {
            vip: None,
            real: Some(real("10.0.0.9", 1, active)),
        };
        assert_eq!(table.apply(event(Event::RealAdded(other), 9)), None);
        // Nothing has changed since the break.
        table.begin();
        let end = Event::SnapshotEnd(SnapshotEnd { resumed: true });
        assert_eq!(table.apply(event(end, 9)).unwrap().len(), 2);
        // The agent has forgotten it, or the VIP is gone.
        table.begin();
        let end = Event::SnapshotEnd(SnapshotEnd { resumed: false });
        assert_eq!(table.apply(event(end, 10)).unwrap(), []);
    }

    #[test]
    fn reals_that_are_all_held_back_serve_all_the_same() {
        let mut table = table();
        let held = |address, weight| Real {
            spec: Some(v1::RealSpec {
                weight: Some(weight),
                ..Default::default()
            }),
            ..real(address, 0, RealState::Held)
        };
        let down = real("10.0.0.4", 0, RealState::Down);
        table.take(vip(&[
            held("10.0.0.2", 70),
            held("10.0.0.3", 0),
            down.clone(),
        ]));
        assert_eq!(
            texts(&table.members()),
            [
                "10.0.0.2:80 70 up",
                "10.0.0.3:80 0 up",
                "10.0.0.4:80 0 down"
            ]
        );
        // One that serves is enough.
        table.take(vip(&[
            held("10.0.0.2", 70),
            real("10.0.0.3", 5, RealState::Active),
        ]));
        assert_eq!(
            texts(&table.members()),
            ["10.0.0.2:80 0 up", "10.0.0.3:80 5 up"]
        );
    }

    #[test]
    fn the_port_is_the_services_or_the_vips() {
        let mut table = table();
        assert_eq!(
            table.address("10.0.0.2").unwrap().to_string(),
            "10.0.0.2:80"
        );
        table.port = Some(8080);
        assert_eq!(table.address("10.0.0.2").unwrap().port(), 8080);
    }
}
