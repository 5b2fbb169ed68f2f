//! Limits of the API: no client can take the agent's memory or its files. `docs/operations.md` has them as a table.
//!
//! The number of connections is a limit of the listener ([`lb_serve::MAX_CONNECTIONS`]).

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use lb_proto::v1::balancer_server::{BalancerServer, SERVICE_NAME};
use lb_serve::calls::{Cost, MaxCalls};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};

use super::Api;

/// Calls at once on one connection; HTTP/2 has a client wait with more.
pub(super) const CALLS_PER_CONNECTION: u32 = 128;
/// Calls at once on all connections.
pub(super) const MAX_CALLS: MaxCalls = MaxCalls {
    calls: 1_024,
    large: 8,
    following: 128,
};
/// The most bytes of a request.
pub(super) const MAX_REQUEST: usize = 64 << 10;
/// The same for `Plan`, whose request is a whole configuration file.
pub(super) const MAX_PLAN: usize = 4 << 20;
/// Header fields of a request, in bytes.
pub(super) const MAX_HEADERS: u32 = 16 << 10;
/// Bytes of a call's request that may arrive before they are taken; the next constant is for a whole connection.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;
pub(super) const CONNECTION_WINDOW: u32 = 256 << 10;
/// How long a call may take until its answer, or its stream of answers, begins.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection without a word for so long is asked whether it lives.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longer without an answer, and it is closed.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection of this age takes no new calls, and is closed when its last call has ended. So one without calls does
/// not stay for ever.
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// Changes in flight that every `Apply` stream may have.
pub(super) const OWN_CHANGES: usize = 64;
/// Changes in flight that all `Apply` streams may have together beyond that.
pub(super) const SHARED_CHANGES: usize = 4_096;

/// Reading takes megabytes where there are thousands of VIPs.
pub(super) fn cost(path: &str) -> Cost {
    let Some(call) = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME))
    else {
        return Cost::Small;
    };
    match call {
        "/ListVips" | "/GetStats" | "/ListFlows" | "/GetRing" | "/Explain" | "/ListReadings"
        | "/Plan" | "/Reload" | "/Backup" | "/Trace" | "/Diagnose" => Cost::Large,
        "/Watch" | "/WatchStats" | "/Capture" => Cost::Following,
        _ => Cost::Small,
    }
}

/// The service with a limit for the size of requests: one for `Plan`, and a smaller one for all others.
#[derive(Clone, Debug)]
pub(super) struct SizeLimited {
    others: BalancerServer<Api>,
    plan: BalancerServer<Api>,
}

impl SizeLimited {
    pub(super) fn new(api: Api) -> Self {
        let others = BalancerServer::new(api);
        SizeLimited {
            plan: others.clone().max_decoding_message_size(MAX_PLAN),
            others: others.max_decoding_message_size(MAX_REQUEST),
        }
    }
}

impl NamedService for SizeLimited {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for SizeLimited {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the generated services, these are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().ends_with("/Plan") {
            self.plan.call(request)
        } else {
            self.others.call(request)
        }
    }
}
