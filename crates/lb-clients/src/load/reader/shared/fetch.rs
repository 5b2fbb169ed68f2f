//! Fetches a page over HTTP with one bounded GET.

use bytes::Bytes;
use http::StatusCode;

use super::super::kind::SourceTarget;
use crate::peer::{
    Deadline,
    http_endpoint::{HttpEndpoint, advice},
};

/// Bytes that are read of an answer at most. RabbitMQ's aggregated metrics are about 100 KiB, those of a large
/// node_exporter 300 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// A page that is fetched once an interval.
#[derive(Debug)]
pub struct Fetch {
    endpoint: HttpEndpoint,
    path: String,
}

impl Fetch {
    /// Creates the page at `path` of the source for one real.
    pub(in super::super) fn new(target: &SourceTarget<'_>, path: &str) -> Self {
        Fetch {
            endpoint: HttpEndpoint::new(target.address, target.tls(), target.authorization()),
            path: target.fill(path),
        }
    }

    /// Fetches the page and returns its body.
    ///
    /// # Errors
    /// Why there is no page, with its URL; an answer other than 200 is an error.
    pub async fn get(&mut self, deadline: &Deadline) -> Result<Bytes, String> {
        let response = self.endpoint.get(&self.path, MAX_BODY, deadline).await?;
        let status = response.status;
        if status != StatusCode::OK {
            let advice = advice(status, "the source's path and port");
            let answered = format!("answered {status}{advice}");
            return Err(self.endpoint.describe(&self.path, &answered));
        }
        response
            .whole()
            .map_err(|error| self.endpoint.describe(&self.path, &error))
    }
}
