use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, thread::JoinHandle};

use lb_proto::v1::{self, balancer_client::BalancerClient, watch_event::Event};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::{
    Code,
    transport::{Channel, Endpoint as ChannelEndpoint},
};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    control::{self, recorder::Recorder},
    intent::store::Store,
};

/// An agent on a Unix socket, with a client.
struct Agent {
    client: BalancerClient<Channel>,
    plane: Recorder,
    socket: PathBuf,
    owner: Handle,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
    thread: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

async fn connect(socket: &std::path::Path) -> Channel {
    ChannelEndpoint::from_shared(format!("unix://{}", socket.display()))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

impl Agent {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/api.sock");
        let plane = Recorder::default();
        let store = Store::open(&directory.path().join("state")).unwrap();
        let (owner, thread) =
            control::start(store, Box::new(plane.clone()), Default::default()).unwrap();
        let (stop, stopping) = watch::channel(false);
        let listener = Listener::bind(Endpoint::Unix(socket.clone()))
            .await
            .unwrap();
        let server = tokio::spawn(serve(
            Api::new(owner.clone(), stopping.clone()),
            vec![listener],
            stopping,
        ));
        let client = BalancerClient::new(connect(&socket).await);
        Agent {
            client,
            plane,
            socket,
            owner,
            stop,
            server,
            thread,
            _directory: directory,
        }
    }

    async fn end(self) {
        // A test may have stopped it already.
        let _ = self.stop.send(true);
        self.server.await.unwrap().unwrap();
        assert!(!self.socket.exists(), "the socket is removed");
        self.owner.stop().await;
        self.thread.join().unwrap();
    }

    /// A VIP with these reals.
    async fn with_reals(&mut self, reals: &[&str]) {
        self.client
            .add_vip(v1::AddVipRequest {
                id: id(),
                spec: None,
            })
            .await
            .unwrap();
        for real in reals {
            self.client.add_real(add_real(real, None)).await.unwrap();
        }
    }
}

fn vip_id(address: &str) -> v1::VipId {
    v1::VipId {
        address: address.into(),
        port: 80,
        protocol: v1::Protocol::Tcp.into(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a field of a request")]
fn id() -> Option<v1::VipId> {
    Some(vip_id("10.0.0.1"))
}

fn add_real(address: &str, weight: Option<u32>) -> v1::AddRealRequest {
    v1::AddRealRequest {
        vip: id(),
        address: address.into(),
        spec: Some(v1::RealSpec {
            weight,
            drained: None,
        }),
    }
}

fn update_real(
    address: &str,
    weight: Option<u32>,
    drained: Option<bool>,
    mask: &[&str],
) -> v1::UpdateRealRequest {
    v1::UpdateRealRequest {
        vip: id(),
        address: address.into(),
        spec: Some(v1::RealSpec { weight, drained }),
        update_mask: Some(prost_types::FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
    }
}

/// The one field that the error names.
fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_details_bad_request().expect("a BadRequest");
    assert_eq!(details.field_violations.len(), 1);
    assert!(
        status
            .message()
            .starts_with(&details.field_violations[0].field),
        "{status}"
    );
    details.field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn vips_and_reals_are_added_changed_listed_and_deleted() {
    let mut agent = Agent::start().await;
    assert_eq!(
        std::fs::metadata(&agent.socket)
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o660
    );

    let vip = agent
        .client
        .add_vip(v1::AddVipRequest {
            id: id(),
            spec: None,
        })
        .await
        .unwrap()
        .into_inner();
    let spec = vip.spec.unwrap();
    assert_eq!(
        (vip.id, spec.slots, vip.reals.len()),
        (id(), Some(4_096), 0)
    );
    assert_eq!(spec.window.unwrap().seconds, 3_600);
    assert_eq!(spec.forward, Some(v1::Forward::Ipip.into()));

    let real = agent
        .client
        .add_real(add_real("10.1.0.2", None))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        real.spec.unwrap(),
        v1::RealSpec {
            weight: Some(100),
            drained: Some(false)
        }
    );
    assert_eq!(
        (real.effective_weight, real.share, real.state()),
        (100, 1.0, v1::RealState::Active)
    );
    agent
        .client
        .add_real(add_real("10.1.0.3", Some(0)))
        .await
        .unwrap();

    let request = v1::UpdateVipRequest {
        id: id(),
        spec: Some(v1::VipSpec {
            track: Some(v1::Track::All.into()),
            ..Default::default()
        }),
        update_mask: None,
    };
    let spec = agent
        .client
        .update_vip(request)
        .await
        .unwrap()
        .into_inner()
        .spec
        .unwrap();
    assert_eq!(
        (spec.track(), spec.window.unwrap().seconds),
        (v1::Track::All, 3_600)
    );

    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    let states: Vec<_> = vips[0]
        .reals
        .iter()
        .map(|real| (real.state(), real.flows, real.flows_exact))
        .collect();
    assert_eq!(
        states,
        [
            (v1::RealState::Active, 5, true),
            (v1::RealState::Draining, 5, true)
        ]
    );

    agent
        .client
        .delete_real(v1::DeleteRealRequest {
            vip: id(),
            address: "10.1.0.2".into(),
        })
        .await
        .unwrap();
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: id() })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert_eq!(vips[0].reals.len(), 1);
    agent
        .client
        .delete_vip(v1::DeleteVipRequest { id: id() })
        .await
        .unwrap();
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert!(vips.is_empty());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_and_presence_say_what_changes() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    for (weight, drained, mask, expected) in [
        (Some(7), None, &[][..], (7, false)),
        (None, Some(true), &[], (7, true)),
        (Some(9), Some(false), &["weight"], (9, true)),
        // Named and not set: back to the default.
        (None, None, &["weight"], (100, true)),
        (Some(0), None, &["*"], (0, false)),
    ] {
        let request = update_real("10.1.0.2", weight, drained, mask);
        let spec = agent
            .client
            .update_real(request)
            .await
            .unwrap()
            .into_inner()
            .spec
            .unwrap();
        assert_eq!(
            (spec.weight(), spec.drained()),
            expected,
            "{weight:?} {drained:?} {mask:?}"
        );
    }
    let nothing = agent
        .client
        .update_real(update_real("10.1.0.2", None, None, &[]))
        .await
        .unwrap_err();
    assert_eq!(field(&nothing), "spec");
    let unknown = agent
        .client
        .update_real(update_real("10.1.0.2", Some(1), None, &["wait"]))
        .await
        .unwrap_err();
    assert_eq!(field(&unknown), "update_mask");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_field() {
    let mut agent = Agent::start().await;
    agent.with_reals(&[]).await;
    let other = |change: &dyn Fn(&mut v1::VipId)| {
        let mut id = vip_id("10.0.0.2");
        change(&mut id);
        Some(id)
    };
    let spec = |spec: v1::VipSpec| v1::AddVipRequest {
        id: other(&|_| {}),
        spec: Some(spec),
    };
    let bare = |id| v1::AddVipRequest { id, spec: None };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (request, expected) in [
        (bare(None), "id"),
        (bare(other(&|id| id.address = String::new())), "id.address"),
        (
            bare(other(&|id| id.address = "10.0.0".into())),
            "id.address",
        ),
        (
            bare(other(&|id| id.address = "224.0.0.1".into())),
            "id.address",
        ),
        (bare(other(&|id| id.port = 65_536)), "id.port"),
        (bare(other(&|id| id.protocol = 0)), "id.protocol"),
        (bare(other(&|id| id.protocol = 9)), "id.protocol"),
        (
            spec(v1::VipSpec {
                forward: Some(9),
                ..Default::default()
            }),
            "spec.forward",
        ),
        (
            spec(v1::VipSpec {
                ring: Some(9),
                ..Default::default()
            }),
            "spec.ring",
        ),
        (
            spec(v1::VipSpec {
                track: Some(-1),
                ..Default::default()
            }),
            "spec.track",
        ),
        (
            spec(v1::VipSpec {
                slots: Some(1),
                ..Default::default()
            }),
            "spec.slots",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(0),
                ..Default::default()
            }),
            "spec.window",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(-5),
                ..Default::default()
            }),
            "spec.window",
        ),
        (
            spec(v1::VipSpec {
                window: seconds(i64::MAX),
                ..Default::default()
            }),
            "spec.window",
        ),
    ] {
        let status = agent.client.add_vip(request).await.unwrap_err();
        assert_eq!(field(&status), expected);
    }
    for (request, expected) in [
        (
            v1::AddRealRequest {
                vip: None,
                ..add_real("10.1.0.2", None)
            },
            "vip",
        ),
        (
            v1::AddRealRequest {
                vip: Some(vip_id("x")),
                ..add_real("10.1.0.2", None)
            },
            "vip.address",
        ),
        (add_real("", None), "address"),
        (add_real("ff02::1", None), "address"),
        (add_real("10.1.0.2", Some(65_536)), "spec.weight"),
    ] {
        let status = agent.client.add_real(request).await.unwrap_err();
        assert_eq!(field(&status), expected);
    }
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert!(
        vips.len() == 1 && vips[0].reals.is_empty(),
        "nothing has changed"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_object_and_the_table() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    let resource = |status: Status, code: Code| {
        assert_eq!(status.code(), code, "{status}");
        let bad = status.get_details_bad_request().expect("a BadRequest");
        let field = &bad.field_violations[0].field;
        assert!(
            status.message().starts_with(&format!("{field}: ")),
            "{status}"
        );
        let info = status.get_details_resource_info().expect("a ResourceInfo");
        (field.clone(), info.resource_type, info.resource_name)
    };
    let named =
        |field: &str, kind: &str, name: &str| (field.to_owned(), kind.to_owned(), name.to_owned());
    let vip = |field, name| named(field, error::VIP_TYPE, name);
    let real = |address: &str| {
        named(
            "address",
            error::REAL_TYPE,
            &format!("10.0.0.1:80/tcp {address}"),
        )
    };
    let status = agent
        .client
        .add_vip(v1::AddVipRequest {
            id: id(),
            spec: None,
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::AlreadyExists),
        vip("id", "10.0.0.1:80/tcp")
    );
    let status = agent
        .client
        .add_real(add_real("10.1.0.2", None))
        .await
        .unwrap_err();
    assert_eq!(resource(status, Code::AlreadyExists), real("10.1.0.2"));
    let status = agent
        .client
        .update_real(update_real("10.1.0.9", Some(1), None, &[]))
        .await
        .unwrap_err();
    assert_eq!(resource(status, Code::NotFound), real("10.1.0.9"));
    let missing = Some(vip_id("10.0.0.9"));
    let status = agent
        .client
        .add_real(v1::AddRealRequest {
            vip: missing.clone(),
            ..add_real("10.1.0.3", None)
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("vip", "10.0.0.9:80/tcp")
    );
    let status = agent
        .client
        .list_vips(v1::ListVipsRequest {
            id: missing.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("id", "10.0.0.9:80/tcp")
    );
    let status = agent
        .client
        .watch(v1::WatchRequest { id: missing })
        .await
        .unwrap_err();
    assert_eq!(
        resource(status, Code::NotFound),
        vip("id", "10.0.0.9:80/tcp")
    );

    agent.plane.tables().capacity = Some(1);
    let status = agent
        .client
        .add_real(add_real("10.1.0.3", None))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.get_details_quota_failure().unwrap().violations[0].subject,
        "table reals"
    );
    let bad = status.get_details_bad_request().unwrap();
    assert_eq!(bad.field_violations[0].field, "address");
    assert!(status.message().starts_with("address: "), "{status}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_changes_is_answered_in_order() {
    let mut agent = Agent::start().await;
    use v1::apply_request::Change;
    let real = |last: u32| {
        Change::AddReal(add_real(
            &format!("10.1.{}.{}", last / 250, last % 250 + 1),
            None,
        ))
    };
    let mut changes = vec![Some(Change::AddVip(v1::AddVipRequest {
        id: id(),
        spec: None,
    }))];
    changes.extend((0..500).map(|last| Some(real(last))));
    changes.push(Some(real(7)));
    changes.push(None);
    changes.push(Some(Change::DeleteReal(v1::DeleteRealRequest {
        vip: id(),
        address: "10.1.0.1".into(),
    })));
    let count = changes.len();
    let requests = changes
        .into_iter()
        .zip(100..)
        .map(|(change, sequence)| v1::ApplyRequest { sequence, change });
    let requests: Vec<_> = requests.collect();
    let responses = agent
        .client
        .apply(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let responses: Vec<_> = responses.map(|response| response.unwrap()).collect().await;
    assert_eq!(
        responses
            .iter()
            .map(|response| response.sequence)
            .collect::<Vec<_>>(),
        (100..100 + count as u64).collect::<Vec<_>>()
    );
    let refused: Vec<_> = responses
        .iter()
        .filter(|response| response.code != 0)
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(refused[0].code, i32::from(Code::AlreadyExists));
    assert_eq!(refused[1].code, i32::from(Code::InvalidArgument));
    assert!(refused.iter().all(|response| !response.error.is_empty()));
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert_eq!(vips[0].reals.len(), 499);
    let calls = agent.plane.tables().calls.len();
    assert!(
        calls < count,
        "services are not computed for each change: {calls} calls"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_gives_a_snapshot_and_then_changes() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    let mut events = agent
        .client
        .watch(v1::WatchRequest { id: None })
        .await
        .unwrap()
        .into_inner();
    let mut next = async || events.next().await.unwrap().unwrap();
    assert!(matches!(next().await.event, Some(Event::Snapshot(vip)) if vip.reals.len() == 1));
    assert!(matches!(next().await.event, Some(Event::SnapshotEnd(_))));
    agent
        .client
        .update_real(update_real("10.1.0.2", Some(5), None, &[]))
        .await
        .unwrap();
    let event = next().await;
    assert!(
        event.cause.starts_with("UpdateReal by uid "),
        "{}",
        event.cause
    );
    let Some(Event::RealChanged(changed)) = event.event else {
        panic!("{event:?}")
    };
    let real = changed.real.unwrap();
    assert_eq!((changed.vip, real.effective_weight), (id(), 5));
    assert_eq!(real.flows, 5, "what the data plane says");
    agent
        .client
        .delete_vip(v1::DeleteVipRequest { id: id() })
        .await
        .unwrap();
    assert_eq!(
        next().await.event,
        Some(Event::VipDeleted(vip_id("10.0.0.1")))
    );

    agent.stop.send(true).unwrap();
    assert_eq!(
        events.next().await.unwrap().unwrap_err().code(),
        Code::Unavailable
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_ended() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    // On a connection of its own: an unread stream holds up the others of its connection.
    // Its windows are small, so that the server notices soon.
    let channel = ChannelEndpoint::from_shared(format!("unix://{}", agent.socket.display()))
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut watcher = BalancerClient::new(channel);
    let mut events = watcher
        .watch(v1::WatchRequest { id: None })
        .await
        .unwrap()
        .into_inner();
    // More than all queues on the way hold together: the owner's, the stream's and HTTP/2's window.
    let request = |sequence: u64| v1::ApplyRequest {
        sequence,
        change: Some(v1::apply_request::Change::UpdateReal(update_real(
            "10.1.0.2",
            Some(u32::try_from(sequence % 2).unwrap() + 1),
            None,
            &[],
        ))),
    };
    let requests: Vec<_> = (0..20_000).map(request).collect();
    let responses = agent
        .client
        .apply(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        responses
            .filter(|response| response.as_ref().unwrap().code == 0)
            .count_all()
            .await,
        20_000
    );
    let end = loop {
        match events.next().await.expect("an end that says why") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Aborted);
    assert!(end.message().contains("Watch again"), "{end}");
    agent.end().await;
}

/// `count` of a stream.
trait CountAll: tokio_stream::Stream + Sized + Unpin {
    async fn count_all(mut self) -> usize {
        let mut count = 0;
        while self.next().await.is_some() {
            count += 1;
        }
        count
    }
}

impl<S: tokio_stream::Stream + Unpin> CountAll for S {}

#[tokio::test(flavor = "multi_thread")]
async fn counters_flows_and_status_are_told() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2", "10.1.0.3"]).await;
    agent
        .plane
        .tables()
        .unreachable
        .push("10.1.0.3".parse().unwrap());
    let stats = agent
        .client
        .get_stats(v1::GetStatsRequest { id: id() })
        .await
        .unwrap()
        .into_inner();
    let vip = &stats.vips[0];
    assert_eq!((vip.dropped_packets, vip.counters.unwrap().packets), (1, 2));
    assert_eq!(vip.reals[1].counters.unwrap().bytes, 120);
    assert_eq!(
        (vip.reals[0].state(), vip.reals[1].state()),
        (v1::RealState::Active, v1::RealState::Unreachable)
    );
    let reasons = &stats.interfaces[0].reasons;
    assert!(
        reasons
            .iter()
            .any(|count| (count.reason.as_str(), count.verdict.as_str()) == ("not_ip", "pass"))
    );

    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let mut stream = agent
        .client
        .watch_stats(v1::WatchStatsRequest { id: None, interval })
        .await
        .unwrap()
        .into_inner();
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap().vips.len(), 1);
    }
    drop(stream);
    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 99_000_000,
    });
    let status = agent
        .client
        .watch_stats(v1::WatchStatsRequest { id: None, interval })
        .await
        .unwrap_err();
    assert_eq!(field(&status), "interval");

    let flows = agent
        .client
        .list_flows(v1::ListFlowsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .reals;
    assert_eq!(
        (
            flows.len(),
            flows[0].flows,
            flows[0].entries,
            flows[0].exact
        ),
        (2, 5, 2, false)
    );
    let status = agent
        .client
        .get_status(v1::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            status.vips,
            status.reals,
            status.interfaces[0].xdp_mode.as_str()
        ),
        (1, 2, "native")
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_shown_and_previewed() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2", "10.1.0.3"]).await;
    let what_if = |address: &str, weight| v1::WhatIf {
        address: address.into(),
        weight,
    };
    let mut client = agent.client.clone();
    let mut ring = async |what_if: Vec<v1::WhatIf>| {
        client
            .get_ring(v1::GetRingRequest { id: id(), what_if })
            .await
            .map(Response::into_inner)
    };
    let now = ring(vec![]).await.unwrap();
    assert_eq!((now.slots, now.moved, now.reals.len()), (4_096, 0.0, 2));
    let same = ring(vec![what_if("10.1.0.2", 100)]).await.unwrap();
    assert_eq!((same.moved, &same.checksum), (0.0, &now.checksum));
    let other = ring(vec![what_if("10.1.0.2", 50)]).await.unwrap();
    assert!(other.moved > 0.1 && other.moved < 0.25, "{}", other.moved);
    assert_ne!(other.checksum, now.checksum);
    let gone = ring(vec![what_if("10.1.0.3", 0)]).await.unwrap();
    assert!((gone.moved - now.reals[1].share).abs() < 1e-9);
    let new = ring(vec![what_if("10.1.0.4", 100)]).await.unwrap();
    assert!(new.reals.len() == 3 && new.reals[2].share > 0.3);
    assert_eq!(ring(vec![]).await.unwrap(), now, "nothing was done");
    for (asked, expected) in [
        (vec![what_if("10.1.0.2", 65_536)], "what_if[0].weight"),
        (vec![what_if("0.0.0.0", 1)], "what_if[0].address"),
        (
            vec![what_if("10.1.0.2", 1), what_if("10.1.0.2", 2)],
            "what_if[1].address",
        ),
    ] {
        assert_eq!(field(&ring(asked).await.unwrap_err()), expected);
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_simulated() {
    let mut agent = Agent::start().await;
    let frame = |length, interface: &str| v1::SimulateRequest {
        packet: vec![0; length],
        interface: interface.into(),
    };
    let told = agent
        .client
        .simulate(frame(60, ""))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            told.verdict.as_str(),
            told.reason.as_str(),
            told.chosen_by.as_str()
        ),
        ("pass", "not_ip", "nothing")
    );
    assert_eq!((told.vip, told.packet.len()), (None, 60));
    assert_eq!(
        field_in_details(&agent.client.simulate(frame(60, "eth8")).await.unwrap_err()),
        "interface"
    );
    assert_eq!(
        field_in_details(&agent.client.simulate(frame(13, "")).await.unwrap_err()),
        "packet"
    );
    agent.end().await;
}

fn field_in_details(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument);
    status.get_details_bad_request().unwrap().field_violations[0]
        .field
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let agent = Agent::start().await;
    let channel = connect(&agent.socket).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest {
        service: "lb.v1.Balancer".into(),
    };
    let status = health.check(request).await.unwrap().into_inner().status();
    assert_eq!(
        status,
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&"lb.v1.Balancer") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    agent.end().await;
}

#[tokio::test]
async fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(directory.path().join("api.sock"));
    let live = Listener::bind(endpoint.clone()).await.unwrap();
    assert!(matches!(
        Listener::bind(endpoint.clone()).await,
        Err(ListenError::InUse(_))
    ));
    drop(live);
    // A socket whose process died: nobody listens, the file is there.
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("api.sock")).unwrap());
    let replaced = Listener::bind(endpoint).await.unwrap();
    drop(replaced);
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(
        Listener::bind(Endpoint::Unix(file.clone())).await,
        Err(ListenError::NoSocket(_))
    ));
    assert!(file.exists());
}

#[test]
fn endpoints_are_read() {
    for (text, written) in [
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
        ("http://[::1]:7070/", "http://[::1]:7070"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), written);
    }
    for text in [
        "",
        "/run/x",
        "unix:",
        "http://127.0.0.1",
        "http://0.0.0.0:1",
        "http://10.0.0.1:1",
        "https://127.0.0.1:1",
    ] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}
