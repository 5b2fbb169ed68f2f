//! `lb.controller.v1` over gRPC. Nothing is decided here.

mod access;
pub(crate) mod convert;
pub(crate) mod environments;
mod guard;
pub(crate) mod history;
pub(crate) mod hosts;
mod projects;
mod serve;
mod subnets;

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    time::Duration,
};

use futures::Stream;
use lb_model::pool::{InstanceName, PoolName};
use lb_proto::{
    controller::v1::{
        self, controller_server::Controller as Service, watch_pools_response::Change,
    },
    settings::struct_to_map,
};
use lb_serve::stopped;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub use serve::serve;

use self::history::HistoryApi;

use crate::{
    access::Directory,
    controller::{Controller, Operation, Refused},
    environments::Environments,
    history::History,
    projects::Projects,
    worker::{PoolView, Report},
};

/// Type of a pool in `google.rpc.ResourceInfo`.
const POOL_TYPE: &str = "lb.controller.v1.Pool";
/// What `GetLogs` returns unless it is told otherwise, and at most.
const LOGS: usize = 64 << 10;
const MOST_LOGS: usize = 1 << 20;
/// Lines of a copy in a message.
const LINES: usize = 256;
/// Events that `ExplainPool` returns.
const EVENTS: usize = 50;
/// How long a watcher waits after a pool has gone, for its name to go.
const CALM: Duration = Duration::from_millis(100);
/// Changes that a watcher is behind at most before its pools are told only as they are then.
const BEHIND: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct Api {
    controller: Controller,
    projects: Projects,
    environments: Environments,
    directory: Directory,
    history: History,
    /// Becomes true when the controller ends: streams end then.
    stopping: watch::Receiver<bool>,
}

impl Api {
    /// Serves these pools.
    #[must_use]
    pub const fn new(
        controller: Controller,
        projects: Projects,
        environments: Environments,
        directory: Directory,
        history: History,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Api {
            controller,
            projects,
            environments,
            directory,
            history,
            stopping,
        }
    }

    fn history(&self) -> HistoryApi {
        HistoryApi::new(self.directory.clone(), self.history.clone())
    }

    fn directory(&self) -> Directory {
        self.directory.clone()
    }
}

/// A refusal with its details.
fn refused(refusal: &Refused) -> Status {
    let text = refusal.to_string();
    let about = |code, name: &PoolName| {
        let details =
            ErrorDetails::with_resource_info(POOL_TYPE, name.to_string(), "", text.clone());
        Status::with_error_details(code, text.clone(), details)
    };
    match refusal {
        Refused::NoPool(name) => about(Code::NotFound, name),
        Refused::Exists(name) => about(Code::AlreadyExists, name),
        Refused::Deleting(name)
        | Refused::OfFile(name)
        | Refused::OfBalancer(name)
        | Refused::OfEnvironment(name)
        | Refused::CannotPause(name, _) => about(Code::FailedPrecondition, name),
        Refused::Invalid(error) => Status::with_error_details(
            Code::InvalidArgument,
            text.clone(),
            ErrorDetails::with_bad_request_violation(
                error.field.clone(),
                format!("{}: {}", error.value, error.advice),
            ),
        ),
        Refused::Driver(_) => Status::failed_precondition(text),
        Refused::Store(_) => Status::unavailable(text),
        Refused::Ended(_) => Status::internal(text),
        Refused::NoInstance(_) => Status::not_found(text),
        Refused::Instance(error) => match error.code() {
            lb_drivers::ErrorCode::NotFound => Status::not_found(text),
            lb_drivers::ErrorCode::Unreachable | lb_drivers::ErrorCode::TimedOut => {
                Status::unavailable(text)
            }
            _ => Status::internal(text),
        },
    }
}

fn pool_name(text: &str) -> Result<PoolName, Status> {
    text.parse().map_err(|error: lb_model::pool::NameError| {
        refused(&Refused::Invalid(lb_model::settings::FieldError::new(
            "name",
            format!("{text:?}"),
            error.to_string(),
        )))
    })
}

fn optional_name(text: &str) -> Result<Option<PoolName>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    pool_name(text).map(Some)
}

fn instance_name(text: &str) -> Result<InstanceName, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("name: {text:?}: {error}")))
}

/// What a watcher is sent.
type Changes = mpsc::Sender<Result<v1::WatchPoolsResponse, Status>>;

/// Follows the pools until the reader has gone.
struct Follower {
    controller: Controller,
    only: Option<PoolName>,
    changes: Changes,
    /// The number of the last event that was sent.
    revision: u64,
    followed: BTreeMap<PoolName, watch::Receiver<PoolView>>,
}

impl Follower {
    async fn send(&self, change: Change) -> Option<()> {
        let change = v1::WatchPoolsResponse {
            change: Some(change),
        };
        self.changes.send(Ok(change)).await.ok()
    }

    fn is_for(&self, pool: Option<&PoolName>) -> bool {
        self.only.as_ref().is_none_or(|only| Some(only) == pool)
    }

    /// Sends the events that came since; whether all of them are known.
    async fn send_events(&mut self) -> Option<bool> {
        let Ok(events) = self.controller.events().since(self.revision) else {
            self.revision = *self.controller.events().revision().borrow();
            return Some(false);
        };
        for event in events {
            if self.is_for(event.pool.as_ref()) {
                self.send(Change::Event(convert::event(&event))).await?;
            }
            self.revision = event.revision;
        }
        Some(true)
    }

    /// Sends the pools that have changed, come or gone.
    async fn send_pools(&mut self) -> Option<()> {
        let pools = self.controller.followers();
        let gone: Vec<PoolName> = self
            .followed
            .keys()
            .filter(|name| !pools.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.followed.remove(&name);
            self.send(Change::Deleted(name.to_string())).await?;
        }
        for (name, view) in pools {
            if !self.is_for(Some(&name)) {
                continue;
            }
            // A pool that was deleted and added again has another task.
            let is_known = self
                .followed
                .get(&name)
                .is_some_and(|known| known.same_channel(&view));
            if !is_known {
                let mut view = view;
                view.mark_changed();
                self.followed.insert(name, view);
            }
        }
        let changed: Vec<v1::Pool> = self
            .followed
            .values_mut()
            // A pool whose task has ended has nothing new.
            .filter(|view| view.has_changed().unwrap_or(false))
            .map(|view| convert::pool(&view.borrow_and_update()))
            .collect();
        for pool in changed {
            self.send(Change::Pool(pool)).await?;
        }
        Some(())
    }

    async fn run(mut self, since: u64) -> Option<()> {
        let mut names = self.controller.names();
        let mut revisions = self.controller.events().revision();
        let resumed = if since > 0 {
            self.revision = since;
            self.send_events().await?
        } else {
            self.revision = *revisions.borrow_and_update();
            false
        };
        self.send_pools().await?;
        self.send(Change::SnapshotEnd(v1::SnapshotEnd {
            revision: self.revision,
            resumed,
        }))
        .await?;
        loop {
            let any = self
                .followed
                .values_mut()
                .map(|view| Box::pin(view.changed()));
            let any = async {
                let any: Vec<_> = any.collect();
                if any.is_empty() {
                    std::future::pending::<()>().await;
                }
                // A pool that is gone has ended its channel; the names change then, too.
                if let (Err(_), _, rest) = futures::future::select_all(any).await {
                    drop(rest);
                    tokio::time::sleep(CALM).await;
                }
            };
            tokio::select! {
                () = self.changes.closed() => return None,
                changed = names.changed() => changed.ok()?,
                changed = revisions.changed() => changed.ok()?,
                () = any => {}
            }
            self.send_events().await?;
            self.send_pools().await?;
        }
    }
}

#[tonic::async_trait]
impl Service for Api {
    async fn add_pool(
        &self,
        request: Request<v1::AddPoolRequest>,
    ) -> Result<Response<v1::Pool>, Status> {
        let request = request.into_inner();
        let name = pool_name(&request.name)?;
        let settings = request.settings.map(struct_to_map).unwrap_or_default();
        let added = self.controller.add(name, &settings).await;
        let view = added.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(convert::pool(&view)))
    }

    async fn update_pool(
        &self,
        request: Request<v1::UpdatePoolRequest>,
    ) -> Result<Response<v1::Pool>, Status> {
        let request = request.into_inner();
        let name = pool_name(&request.name)?;
        let patch = request.patch.map(struct_to_map).unwrap_or_default();
        let updated = self.controller.update(&name, &patch).await;
        let view = updated.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(convert::pool(&view)))
    }

    async fn delete_pool(
        &self,
        request: Request<v1::DeletePoolRequest>,
    ) -> Result<Response<v1::DeletePoolResponse>, Status> {
        let name = pool_name(&request.into_inner().name)?;
        let deleted = self.controller.delete(&name).await;
        deleted.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(v1::DeletePoolResponse {}))
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        let name = optional_name(&request.into_inner().name)?;
        // First: an event that comes meanwhile may come again, and never gets lost.
        let revision = *self.controller.events().revision().borrow();
        let views = self.controller.views(name.as_ref());
        let views = views.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(v1::ListPoolsResponse {
            pools: views.iter().map(convert::pool).collect(),
            revision,
            warnings: self.controller.warnings(),
        }))
    }

    async fn explain_pool(
        &self,
        request: Request<v1::ExplainPoolRequest>,
    ) -> Result<Response<v1::ExplainPoolResponse>, Status> {
        let name = pool_name(&request.into_inner().name)?;
        let views = self.controller.views(Some(&name));
        let views = views.map_err(|refusal| refused(&refusal))?;
        let events = self.controller.events().newest(&name, EVENTS);
        let view = views.first();
        Ok(Response::new(v1::ExplainPoolResponse {
            pool: view.map(convert::pool),
            decision: view.and_then(|view| view.decision.as_ref().map(convert::decision)),
            events: events.iter().map(|event| convert::event(event)).collect(),
        }))
    }

    type WatchPoolsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchPoolsResponse, Status>> + Send>>;

    async fn watch_pools(
        &self,
        request: Request<v1::WatchPoolsRequest>,
    ) -> Result<Response<Self::WatchPoolsStream>, Status> {
        let request = request.into_inner();
        let only = optional_name(&request.name)?;
        if let Some(name) = &only {
            self.controller
                .views(Some(name))
                .map_err(|refusal| refused(&refusal))?;
        }
        let (changes, receiver) = mpsc::channel(BEHIND);
        let mut stopping = self.stopping.clone();
        let end = changes.clone();
        let follower = Follower {
            controller: self.controller.clone(),
            only,
            changes,
            revision: 0,
            followed: BTreeMap::new(),
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = follower.run(request.since_revision) => {}
                () = stopped(&mut stopping) => {
                    let status = Status::unavailable("the controller is stopping; call again when it runs");
                    // The reader may have gone.
                    let _ = end.send(Err(status)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_logs(
        &self,
        request: Request<v1::GetLogsRequest>,
    ) -> Result<Response<v1::GetLogsResponse>, Status> {
        let request = request.into_inner();
        let name = instance_name(&request.name)?;
        let most = match request.most {
            0 => LOGS,
            most => MOST_LOGS.min(most as usize),
        };
        let text = self.controller.logs(&name, most).await;
        let text = text.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(v1::GetLogsResponse { text }))
    }

    async fn operate_instance(
        &self,
        request: Request<v1::OperateInstanceRequest>,
    ) -> Result<Response<v1::OperateInstanceResponse>, Status> {
        let request = request.into_inner();
        let name = instance_name(&request.name)?;
        let operation = match request.operation() {
            v1::Operation::Unspecified => {
                return Err(Status::invalid_argument(
                    "operation: not set: give pause, suspend, resume, reboot, clone or move",
                ));
            }
            v1::Operation::Pause => Operation::Pause,
            v1::Operation::Suspend => Operation::Suspend,
            v1::Operation::Resume => Operation::Resume,
            v1::Operation::Reboot => Operation::Reboot,
            v1::Operation::Clone => Operation::Clone,
            v1::Operation::Move => Operation::Move(
                request
                    .host
                    .parse()
                    .map_err(|error| Status::invalid_argument(format!("host: {error}")))?,
            ),
        };
        let done = self.controller.operate(&name, operation).await;
        let made = done.map_err(|refusal| refused(&refusal))?;
        let name = made.map(|name| name.to_string()).unwrap_or_default();
        Ok(Response::new(v1::OperateInstanceResponse { name }))
    }

    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupLines, Status>> + Send>>;

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let copy = self.controller.keeper().copy().await;
        let text = copy
            .map_err(|error| Status::unavailable(error.to_string()))?
            .write();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let messages = lines.chunks(LINES).map(|lines| {
            Ok(v1::BackupLines {
                text: lines.concat(),
            })
        });
        let messages: Vec<_> = messages.collect();
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }

    async fn report_demand(
        &self,
        request: Request<v1::ReportDemandRequest>,
    ) -> Result<Response<v1::ReportDemandResponse>, Status> {
        let request = request.into_inner();
        let name = pool_name(&request.pool)?;
        let is_count = |value: &f64| value.is_finite() && *value >= 0.0;
        if !is_count(&request.requests) || !request.pending.values().all(is_count) {
            return Err(Status::invalid_argument("counts are 0 or more"));
        }
        let mut pending = HashMap::new();
        for (name, count) in request.pending {
            pending.insert(instance_name(&name)?, count);
        }
        let report = Report {
            requests: request.requests,
            pending,
            latency: request.latency.filter(is_count),
        };
        let reported = self.controller.report(&name, report).await;
        reported.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(v1::ReportDemandResponse {}))
    }

    async fn create_project(
        &self,
        request: Request<v1::CreateProjectRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        projects::create_project(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_project(
        &self,
        request: Request<v1::UpdateProjectRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        projects::update_project(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_project(
        &self,
        request: Request<v1::DeleteProjectRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        projects::delete_project(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_projects(
        &self,
        request: Request<v1::ListProjectsRequest>,
    ) -> Result<Response<v1::ListProjectsResponse>, Status> {
        let caller = guard::caller(&request);
        projects::list_projects(&self.projects, &caller, request.get_ref()).map(Response::new)
    }

    async fn create_balancer(
        &self,
        request: Request<v1::CreateBalancerRequest>,
    ) -> Result<Response<v1::Balancer>, Status> {
        projects::create_balancer(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_balancer(
        &self,
        request: Request<v1::UpdateBalancerRequest>,
    ) -> Result<Response<v1::Balancer>, Status> {
        projects::update_balancer(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_balancer(
        &self,
        request: Request<v1::DeleteBalancerRequest>,
    ) -> Result<Response<v1::Balancer>, Status> {
        projects::delete_balancer(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_balancers(
        &self,
        request: Request<v1::ListBalancersRequest>,
    ) -> Result<Response<v1::ListBalancersResponse>, Status> {
        let caller = guard::caller(&request);
        projects::list_balancers(&self.projects, &caller, request.get_ref()).map(Response::new)
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        hosts::list(self.controller.hosts(), request.get_ref()).map(Response::new)
    }

    async fn list_orphans(
        &self,
        _: Request<v1::ListOrphansRequest>,
    ) -> Result<Response<v1::ListOrphansResponse>, Status> {
        Ok(Response::new(convert::orphans(self.controller.orphans())))
    }

    async fn create_host_token(
        &self,
        request: Request<v1::CreateHostTokenRequest>,
    ) -> Result<Response<v1::HostToken>, Status> {
        hosts::token(self.controller.hosts(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_host(
        &self,
        request: Request<v1::UpdateHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        hosts::update(self.controller.hosts(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_host(
        &self,
        request: Request<v1::RemoveHostRequest>,
    ) -> Result<Response<v1::RemoveHostResponse>, Status> {
        hosts::remove(self.controller.hosts(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn create_environment(
        &self,
        request: Request<v1::CreateEnvironmentRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        let caller = guard::caller(&request);
        environments::create(&self.environments, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_environment(
        &self,
        request: Request<v1::UpdateEnvironmentRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        let caller = guard::caller(&request);
        environments::update(&self.environments, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let caller = guard::caller(&request);
        environments::list(&self.environments, &caller, request.get_ref()).map(Response::new)
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        let caller = guard::caller(&request);
        environments::add_member(&self.environments, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        environments::remove_member(&self.environments, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn order_environment(
        &self,
        request: Request<v1::OrderEnvironmentRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        environments::whole(&self.environments, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn clone_environment(
        &self,
        request: Request<v1::CloneEnvironmentRequest>,
    ) -> Result<Response<v1::Ordered>, Status> {
        let caller = guard::caller(&request);
        environments::clone(&self.environments, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_commands(
        &self,
        request: Request<v1::ListCommandsRequest>,
    ) -> Result<Response<v1::ListCommandsResponse>, Status> {
        let caller = guard::caller(&request);
        environments::list_commands(&self.environments, &caller, request.get_ref())
            .map(Response::new)
    }

    async fn cancel_command(
        &self,
        request: Request<v1::CancelCommandRequest>,
    ) -> Result<Response<v1::Command>, Status> {
        environments::cancel(self.environments.commands(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn retry_command(
        &self,
        request: Request<v1::RetryCommandRequest>,
    ) -> Result<Response<v1::Command>, Status> {
        environments::retry(self.environments.commands(), request.into_inner())
            .await
            .map(Response::new)
    }

    type WatchCommandsStream = environments::Watch;

    async fn watch_commands(
        &self,
        request: Request<v1::WatchCommandsRequest>,
    ) -> Result<Response<Self::WatchCommandsStream>, Status> {
        let caller = guard::caller(&request);
        let stopping = self.stopping.clone();
        environments::watch(&self.environments, caller, request.get_ref(), stopping)
            .map(Response::new)
    }

    async fn create_subnet(
        &self,
        request: Request<v1::CreateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        subnets::create(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_subnet(
        &self,
        request: Request<v1::UpdateSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        subnets::update(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_subnet(
        &self,
        request: Request<v1::DeleteSubnetRequest>,
    ) -> Result<Response<v1::Subnet>, Status> {
        subnets::delete(&self.projects, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_subnets(
        &self,
        request: Request<v1::ListSubnetsRequest>,
    ) -> Result<Response<v1::ListSubnetsResponse>, Status> {
        let caller = guard::caller(&request);
        subnets::list(&self.projects, &caller, request.get_ref()).map(Response::new)
    }
}
