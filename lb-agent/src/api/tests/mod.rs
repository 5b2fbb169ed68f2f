//! The API as a client sees it: an agent on a Unix socket, its data plane a recorder.

mod changes;
mod following;
mod limits;
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
use crate::config::Config;
use crate::control::{self, recorder::Recorder};
use crate::reload::Reloader;
use crate::store::State;

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
    file: PathBuf,
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
        Self::start_with("").await
    }

    /// An agent with a configuration file of this text.
    async fn start_with(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lb.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let socket = directory.path().join("run/api.sock");
        let plane = Recorder::default();
        let state = State::open(&directory.path().join("state")).unwrap();
        let options = control::Options {
            file: Some(config.intent),
            ..control::Options::default()
        };
        let changed = Arc::clone(&options.changed);
        let (owner, thread) = control::start(state, Box::new(plane.clone()), options).unwrap();
        let (handle, supervisor) = supervisor::start(owner.clone(), changed);
        let (stop, stopping) = watch::channel(false);
        let listener = Listener::bind(Endpoint::Unix(socket.clone()))
            .await
            .unwrap();
        let server = tokio::spawn(serve(
            Api::new(
                owner.clone(),
                handle,
                Arc::new(Reloader::new(
                    Some(file.clone()),
                    config.agent,
                    owner.clone(),
                )),
                stopping.clone(),
            ),
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
            file,
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
                ..Default::default()
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
        ..v1::VipId::default()
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
        ..Default::default()
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
        ..Default::default()
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
