//! Fetches a page over HTTP with one bounded GET.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;

use crate::load::config::Source;
use crate::peer::{
    Deadline,
    place::{Place, advice},
};

/// Bytes that are read of an answer at most. RabbitMQ's aggregated metrics are about 100 KiB, those of a large
/// node_exporter 300 KiB.
pub const MAX_BODY: usize = 1 << 20;

/// A page that is fetched once an interval.
#[derive(Debug)]
pub(super) struct Fetch {
    place: Place,
    path: String,
}

impl Fetch {
    /// Creates the page at `path` of the source for one real.
    pub(super) fn new(source: &Source, real: IpAddr, path: &str) -> Self {
        Fetch {
            place: Place::new(
                source.target(real),
                source.tls.clone(),
                source.login.clone(),
            ),
            path: source.fill(path, real),
        }
    }

    /// Fetches the page and returns its body.
    ///
    /// # Errors
    /// Why there is no page, with its URL; an answer other than 200 is an error.
    pub(super) async fn get(&mut self, deadline: &Deadline) -> Result<Bytes, String> {
        let response = self.place.get(&self.path, MAX_BODY, deadline).await?;
        let status = response.status;
        if status != StatusCode::OK {
            let advice = advice(status, "the source's path and port");
            let answered = format!("answered {status}{advice}");
            return Err(self.place.says(&self.path, &answered));
        }
        response
            .whole()
            .map_err(|error| self.place.says(&self.path, &error))
    }
}
