//! The API as a client sees it: an agent on a Unix socket, its data plane a recorder.

mod changes;
mod questions;
mod refusals;
mod serving;
mod stats;
mod stream;
mod watching;

use lb_serve::{Endpoint, Listener};
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
use crate::control::{self, recorder::Recorder};
use crate::store::Store;

/// An agent on a Unix socket, with a client.
struct Agent {
    client: BalancerClient<Channel>,
    plane: Recorder,
    socket: PathBuf,
    owner: Handle,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<anyhow::Result<()>>,
    supervisor: tokio::task::JoinHandle<()>,
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
        let options = control::Options::default();
        let changed = Arc::clone(&options.changed);
        let (owner, thread) = control::start(store, Box::new(plane.clone()), options).unwrap();
        let (handle, supervisor) = supervisor::start(owner.clone(), changed);
        let (stop, stopping) = watch::channel(false);
        let listener = Listener::bind(Endpoint::Unix(socket.clone()))
            .await
            .unwrap();
        let server = tokio::spawn(serve(
            Api::new(owner.clone(), handle, stopping.clone()),
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
            supervisor,
            thread,
            _directory: directory,
        }
    }

    async fn end(self) {
        // A test may have stopped it already.
        let _ = self.stop.send(true);
        self.server.await.unwrap().unwrap();
        assert!(!self.socket.exists(), "the socket is removed");
        self.supervisor.abort();
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
            ..v1::RealSpec::default()
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
        spec: Some(v1::RealSpec {
            weight,
            drained,
            ..v1::RealSpec::default()
        }),
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
