//! The service `History`. Nothing is decided here.

use lb_history::{Key, Point, Quantity, Query};
use lb_model::pool::PoolName;
use lb_proto::controller::v1::{self, history_server::History as Service};
use tonic::{Request, Response, Status};

use crate::{
    access::Directory,
    history::{History, key_of_instance, key_of_pool, now},
    registry::Key as ObjectKey,
};

/// The service.
#[derive(Clone, Debug)]
pub struct HistoryApi {
    directory: Directory,
    history: History,
}

impl HistoryApi {
    /// Serves the history of these objects.
    #[must_use]
    pub const fn new(directory: Directory, history: History) -> Self {
        HistoryApi { directory, history }
    }

    fn key(&self, request: &v1::GetHistoryRequest) -> Result<Key, Status> {
        if request.project.is_empty() != request.balancer.is_empty() {
            return Err(Status::invalid_argument(
                "give a project with a load balancer, or the name of a pool or an instance",
            ));
        }
        let found = if request.balancer.is_empty() {
            key_of_name(&self.directory, &request.name)
        } else {
            key_of_balancer(&self.directory, &request.project, &request.balancer)
        };
        found.map_err(Status::not_found)
    }
}

/// The series of a load balancer.
///
/// # Errors
/// There is none.
pub fn key_of_balancer(
    directory: &Directory,
    project: &str,
    balancer: &str,
) -> Result<Key, String> {
    let project: ObjectKey = project.parse()?;
    let key: ObjectKey = balancer.parse()?;
    let view = directory.projects().balancer(&project, &key);
    let view = view.map_err(|refusal| refusal.to_string())?;
    let pool = lb_model::project::pool_of_nodes(view.record.id);
    key_of_pool(&pool).ok_or_else(|| format!("there is no history of {balancer}"))
}

/// The series of a pool, or of an instance.
///
/// # Errors
/// There is none.
pub fn key_of_name(directory: &Directory, name: &str) -> Result<Key, String> {
    let none = || {
        format!(
            "there is no pool and no instance {name}; `lbctl pool list` shows them, and PROJECT/BALANCER is a load balancer"
        )
    };
    if let Ok(pool) = name.parse::<PoolName>()
        && directory.has_pool(&pool)
    {
        return key_of_pool(&pool).ok_or_else(none);
    }
    // With its epoch, or without.
    let instance = name.parse().or_else(|_| format!("{name}-1").parse());
    let instance: lb_model::pool::InstanceName = instance.map_err(|_| none())?;
    if directory.has_pool(&instance.pool) {
        return key_of_instance(&instance).ok_or_else(none);
    }
    // Without its epoch, a name may look like one with it.
    let instance = format!("{name}-1").parse::<lb_model::pool::InstanceName>();
    let instance = instance.ok().filter(|one| directory.has_pool(&one.pool));
    instance
        .and_then(|instance| key_of_instance(&instance))
        .ok_or_else(none)
}

fn point(point: &Point) -> v1::HistoryPoint {
    let figures = Quantity::ALL.into_iter().filter_map(|quantity| {
        let (mean, highest) = point.get(quantity)?;
        let figure = v1::HistoryFigure { mean, highest };
        Some((quantity.name().to_owned(), figure))
    });
    v1::HistoryPoint {
        time: point.time,
        figures: figures.collect(),
    }
}

#[tonic::async_trait]
impl Service for HistoryApi {
    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        let request = request.into_inner();
        let key = self.key(&request)?;
        let query = Query::new(request.from, request.to, request.step, now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let points = self.history.read(key, query).await;
        let points = points.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(v1::GetHistoryResponse {
            step: query.step,
            points: points.unwrap_or_default().iter().map(point).collect(),
        }))
    }
}
