//! The history of load over HTTP: `from`, `to` and `step` in seconds, and `format=csv`.

use http::{Request, StatusCode};
use lb_history::{Key, Query, query::csv};
use serde_json::json;

use super::{
    Site, respond,
    routes::{Answer, not_allowed, ok, problem, query, query_text},
};
use crate::{
    api::history::{key_of_balancer, key_of_name},
    history::now,
};

/// `/v1/history/NAME`: a pool, or an instance.
pub async fn of_name<B>(site: &Site, name: &str, request: &Request<B>) -> Answer {
    answer(site, key_of_name(&site.directory, name), request).await
}

/// `/v1/projects/PROJECT/balancers/BALANCER/history`
pub async fn of_balancer<B>(
    site: &Site,
    project: &str,
    balancer: &str,
    request: &Request<B>,
) -> Answer {
    let key = key_of_balancer(&site.directory, project, balancer);
    answer(site, key, request).await
}

async fn answer<B>(site: &Site, key: Result<Key, String>, request: &Request<B>) -> Answer {
    if request.method() != "GET" {
        return Err(not_allowed("GET"));
    }
    let key = key.map_err(|text| problem(StatusCode::NOT_FOUND, &text))?;
    let uri = request.uri();
    let is_csv = match query_text(uri, "format").as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => {
            let text = "format: give json or csv";
            return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
    };
    for name in ["from", "to", "step"] {
        if query_text(uri, name).is_some() && query(uri, name).is_none() {
            let text = format!("{name}: give seconds, a whole number");
            return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
        }
    }
    let asked = Query::new(
        query(uri, "from"),
        query(uri, "to"),
        query(uri, "step"),
        now(),
    );
    let asked =
        asked.map_err(|error| problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()))?;
    let points = site.history.read(key, asked).await;
    let points = points
        .map_err(|error| problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))?
        .unwrap_or_default();
    if is_csv {
        return Ok(respond(
            StatusCode::OK,
            "text/csv; charset=utf-8",
            csv(&points),
        ));
    }
    Ok(ok(&json!({ "step": asked.step, "points": points })))
}
