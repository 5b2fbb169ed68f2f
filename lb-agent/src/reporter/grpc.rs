//! `lb.v1.LoadReport`, with health and reflection.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use lb_proto::v1::{
    self,
    load_report_server::{LoadReport, LoadReportServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch::Receiver,
    time::Instant,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::Connected},
};

use lb_report::{MAX_INTERVAL, Newest, Sample};
use lb_serve::{
    calls::{CallLimits, Cost, MaxCalls},
    stopped,
};

/// Calls at once on one connection.
const CALLS_PER_CONNECTION: u32 = 16;
/// Calls at once on all connections of an endpoint.
const MAX_CALLS: MaxCalls = MaxCalls {
    calls: 1_024,
    large: 1,
    following: 1,
};
/// How long a call may take until its answers begin.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection of this age takes no new calls, and is closed when its last call has ended.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// Bytes that may arrive before they are taken.
const WINDOW: u32 = 64 << 10;
/// A request is a few bytes.
const MAX_REQUEST: usize = 4 << 10;
/// Header fields of a request, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// A connection without a word for so long is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Longer without an answer, and it is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Clone, Debug)]
struct Service {
    newest: Newest,
    /// Becomes true when the reporter ends: streams end then.
    stopping: Receiver<bool>,
}

fn response(sample: Option<Arc<Sample>>) -> Result<v1::ReportedLoad, Status> {
    sample
        .map(|sample| v1::ReportedLoad::from(&*sample))
        .ok_or_else(|| Status::unavailable("no report was taken yet; ask again in a second"))
}

#[tonic::async_trait]
impl LoadReport for Service {
    async fn get(
        &self,
        _: Request<v1::GetLoadRequest>,
    ) -> Result<Response<v1::ReportedLoad>, Status> {
        let newest = self.newest.borrow().clone();
        response(newest).map(Response::new)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::ReportedLoad, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchLoadRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let interval = interval(request.into_inner())?;
        let mut newest = self.newest.clone();
        newest.mark_changed();
        let reports = stream::unfold(
            (newest, Instant::now()),
            move |(mut newest, at)| async move {
                tokio::time::sleep_until(at).await;
                // The thread that takes samples has ended.
                newest.changed().await.ok()?;
                let sample = newest.borrow_and_update().clone();
                Some((response(sample), (newest, Instant::now() + interval)))
            },
        );
        let mut stopping = self.stopping.clone();
        let end = async move {
            stopped(&mut stopping).await;
        };
        Ok(Response::new(Box::pin(reports.take_until(Box::pin(end)))))
    }
}

/// How long a watcher wants to be left alone.
fn interval(request: v1::WatchLoadRequest) -> Result<Duration, Status> {
    let Some(interval) = request.interval else {
        return Ok(Duration::ZERO);
    };
    Duration::try_from(interval)
        .ok()
        .filter(|interval| *interval <= MAX_INTERVAL)
        .ok_or_else(|| {
            Status::invalid_argument(format!(
                "interval: at most {}",
                lb_model::duration::format(MAX_INTERVAL)
            ))
        })
}

/// Serves the connections that come in until `stopping` becomes true and the last call has ended.
///
/// # Errors
/// When the server fails as a whole.
pub async fn serve<C>(
    incoming: impl Stream<Item = io::Result<C>>,
    newest: Newest,
    mut stopping: Receiver<bool>,
) -> anyhow::Result<()>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<LoadReportServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(lb_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let service = Service {
        newest,
        stopping: stopping.clone(),
    };
    Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .max_connection_age(MAX_CONNECTION_AGE)
        .timeout(CALL_TIMEOUT)
        .layer(CallLimits::new(MAX_CALLS, |_| Cost::Small))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(LoadReportServer::new(service).max_decoding_message_size(MAX_REQUEST))
        .add_service(health_service.max_decoding_message_size(MAX_REQUEST))
        .add_service(reflection.max_decoding_message_size(MAX_REQUEST))
        .serve_with_incoming_shutdown(incoming, async move {
            stopped(&mut stopping).await;
        })
        .await?;
    Ok(())
}
