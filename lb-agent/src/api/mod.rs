//! `lb.v1` over gRPC: one file per group of calls. Nothing is decided here: requests become changes of the intent and
//! questions to the owner in [`crate::control`].

mod apply;
mod backup;
mod capture;
mod change;
mod convert;
mod doctor;
mod error;
mod explain;
mod flows;
mod limits;
mod patch;
mod plan;
mod reals;
mod ring;
mod serve;
mod simulate;
mod stats;
mod status;
mod trace;
mod vips;
mod watch;

#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc, time::SystemTime};

use lb_proto::v1::{self, balancer_server::Balancer};
use lb_serve::{Peer, calls::CallLimits};
use tokio::sync::{Semaphore, watch::Receiver};
use tonic::{Request, Response, Status, Streaming};

pub use serve::serve;

use self::change::Requested as _;
use crate::control::Handle;
use crate::reload::Reloader;
use crate::supervisor;

type ResponseStream<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone, Debug)]
pub struct Api {
    control: Handle,
    supervisor: supervisor::Handle,
    reloader: Arc<Reloader>,
    started: SystemTime,
    limits: CallLimits,
    /// Counters that streams share.
    shared_stats: stats::SharedStats,
    /// Changes on all streams that wait for their acknowledgement, beyond those that each may have anyway.
    pending_changes: Arc<Semaphore>,
    /// Becomes true when the agent ends: streams end then.
    stopping: Receiver<bool>,
}

impl Api {
    /// Serves what this owner has, until `stopping` becomes true.
    #[must_use]
    pub fn new(
        control: Handle,
        supervisor: supervisor::Handle,
        reloader: Arc<Reloader>,
        stopping: Receiver<bool>,
    ) -> Self {
        Api {
            control,
            supervisor,
            reloader,
            started: SystemTime::now(),
            shared_stats: stats::SharedStats::default(),
            limits: CallLimits::new(limits::MAX_CALLS, limits::cost),
            pending_changes: Arc::new(Semaphore::new(limits::SHARED_CHANGES)),
            stopping,
        }
    }
}

/// The status of streams that end with the agent.
fn stopping() -> Status {
    Status::unavailable("the agent is stopping; packets flow on, call again when it runs")
}

/// The origin of a change, for the log and for watchers.
fn cause<T>(request: &Request<T>, call: &str) -> Arc<str> {
    match request.extensions().get::<Peer>() {
        Some(Peer::Unix {
            user,
            process: Some(process),
        }) => format!("{call} by uid {user} pid {process}"),
        Some(Peer::Unix {
            user,
            process: None,
        }) => format!("{call} by uid {user}"),
        Some(Peer::Tcp { address, .. }) => format!("{call} from {address}"),
        Some(Peer::Unknown) | None => call.to_owned(),
    }
    .into()
}

#[tonic::async_trait]
impl Balancer for Api {
    async fn add_vip(
        &self,
        request: Request<v1::AddVipRequest>,
    ) -> Result<Response<v1::Vip>, Status> {
        let cause = cause(&request, "AddVip");
        let change = request.into_inner().request(&cause);
        self.add_or_update_vip(change.map_err(error::refused)?)
            .await
            .map(Response::new)
    }

    async fn update_vip(
        &self,
        request: Request<v1::UpdateVipRequest>,
    ) -> Result<Response<v1::Vip>, Status> {
        let cause = cause(&request, "UpdateVip");
        let change = request.into_inner().request(&cause);
        self.add_or_update_vip(change.map_err(error::refused)?)
            .await
            .map(Response::new)
    }

    async fn delete_vip(
        &self,
        request: Request<v1::DeleteVipRequest>,
    ) -> Result<Response<v1::DeleteVipResponse>, Status> {
        let cause = cause(&request, "DeleteVip");
        let change = request.into_inner().request(&cause);
        Api::delete_vip(self, change.map_err(error::refused)?)
            .await
            .map(Response::new)
    }

    async fn list_vips(
        &self,
        request: Request<v1::ListVipsRequest>,
    ) -> Result<Response<v1::ListVipsResponse>, Status> {
        Api::list_vips(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn add_real(
        &self,
        request: Request<v1::AddRealRequest>,
    ) -> Result<Response<v1::Real>, Status> {
        let cause = cause(&request, "AddReal");
        let change = request.into_inner().request(&cause);
        self.add_or_update_real(change.map_err(error::refused_real)?)
            .await
            .map(Response::new)
    }

    async fn update_real(
        &self,
        request: Request<v1::UpdateRealRequest>,
    ) -> Result<Response<v1::Real>, Status> {
        let cause = cause(&request, "UpdateReal");
        let change = request.into_inner().request(&cause);
        self.add_or_update_real(change.map_err(error::refused_real)?)
            .await
            .map(Response::new)
    }

    async fn delete_real(
        &self,
        request: Request<v1::DeleteRealRequest>,
    ) -> Result<Response<v1::DeleteRealResponse>, Status> {
        let cause = cause(&request, "DeleteReal");
        let change = request.into_inner().request(&cause);
        Api::delete_real(self, change.map_err(error::refused_real)?)
            .await
            .map(Response::new)
    }

    async fn reload(
        &self,
        request: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ChangePlan>, Status> {
        let cause = cause(&request, "Reload");
        self.reload_file(request.into_inner(), cause)
            .await
            .map(Response::new)
    }

    async fn plan(
        &self,
        request: Request<v1::PlanRequest>,
    ) -> Result<Response<v1::ChangePlan>, Status> {
        self.plan_changes(request.into_inner())
            .await
            .map(Response::new)
    }

    type ApplyStream = ResponseStream<v1::ApplyResponse>;

    async fn apply(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<Self::ApplyStream>, Status> {
        let cause = cause(&request, "Apply");
        Ok(Response::new(
            self.apply_stream(request.into_inner(), cause),
        ))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::Stats>, Status> {
        let vip =
            convert::optional_vip(request.into_inner().id, convert::ID).map_err(error::refused)?;
        self.stats(vip).await.map(Response::new)
    }

    type WatchStatsStream = ResponseStream<v1::Stats>;

    async fn watch_stats(
        &self,
        request: Request<v1::WatchStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        self.stats_stream(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Result<Response<v1::ListFlowsResponse>, Status> {
        self.flows(request.into_inner()).await.map(Response::new)
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::Status>, Status> {
        self.status().await.map(Response::new)
    }

    async fn simulate(
        &self,
        request: Request<v1::SimulateRequest>,
    ) -> Result<Response<v1::Simulation>, Status> {
        self.simulation(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn trace(
        &self,
        request: Request<v1::SimulateRequest>,
    ) -> Result<Response<v1::PacketTrace>, Status> {
        self.trace_packet(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn diagnose(
        &self,
        _: Request<v1::DiagnoseRequest>,
    ) -> Result<Response<v1::Diagnosis>, Status> {
        self.examine().await.map(Response::new)
    }

    type CaptureStream = ResponseStream<v1::CaptureEvent>;

    async fn capture(
        &self,
        request: Request<v1::CaptureRequest>,
    ) -> Result<Response<Self::CaptureStream>, Status> {
        let cause = cause(&request, "Capture");
        self.capture_stream(request.into_inner(), &cause)
            .await
            .map(Response::new)
    }

    async fn get_ring(
        &self,
        request: Request<v1::GetRingRequest>,
    ) -> Result<Response<v1::Ring>, Status> {
        self.ring(request.into_inner()).await.map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        self.explain_reals(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_readings(
        &self,
        request: Request<v1::ListReadingsRequest>,
    ) -> Result<Response<v1::ListReadingsResponse>, Status> {
        self.readings(request.into_inner()).await.map(Response::new)
    }

    type BackupStream = ResponseStream<v1::BackupLines>;

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        self.back_up().await.map(Response::new)
    }

    type WatchStream = ResponseStream<v1::WatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.watch_stream(request.into_inner())
            .await
            .map(Response::new)
    }
}
