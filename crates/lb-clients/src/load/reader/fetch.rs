//! What is read over HTTP: one bounded GET.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;

use crate::load::spec::Source;
use crate::peer::{
    Deadline,
    http_endpoint::{HttpEndpoint, advice},
};

/// Bytes of an answer that are read at most. RabbitMQ's aggregated metrics are about 100 KiB, a large
/// node_exporter's 300 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// A page to read.
#[derive(Debug)]
pub(super) struct Fetch {
    place: HttpEndpoint,
    path: String,
}

impl Fetch {
    /// This path of the source at this real.
    pub(super) fn new(source: &Source, real: IpAddr, path: &str) -> Self {
        Fetch {
            place: HttpEndpoint::new(
                source.target(real),
                source.tls.clone(),
                source.login.clone(),
            ),
            path: source.fill(path, real),
        }
    }

    /// The body of the answer.
    pub(super) async fn get(&mut self, deadline: &Deadline) -> Result<Bytes, String> {
        let response = self.place.get(&self.path, MAX_BODY, deadline).await?;
        let status = response.status;
        if status != StatusCode::OK {
            let advice = advice(status, "the source's path and port");
            let answered = format!("answered {status}{advice}");
            return Err(self.place.describe(&self.path, &answered));
        }
        response
            .whole()
            .map_err(|error| self.place.describe(&self.path, &error))
    }
}
