//! The server that is asked to end connections: bounded requests of JSON by POST.

use std::{net::IpAddr, net::SocketAddr, time::Duration};

use http::StatusCode;
use lb_model::shedding::Shedding;

use crate::peer::{
    Deadline, fields,
    http::Authorization,
    http_endpoint::{HttpEndpoint, advice},
};

/// Bytes of an answer that are read at most: it says no more than what went wrong.
const MAX_BODY: usize = 4 << 10;
/// Characters of an answer that an error repeats.
const MAX_QUOTED: usize = 200;

/// The server that ends connections of one real.
#[derive(Debug)]
pub struct Server {
    endpoint: HttpEndpoint,
    timeout: Duration,
    address: Option<IpAddr>,
    real: IpAddr,
}

impl Server {
    /// The server that these settings name for this real. `port` is asked if the settings name none.
    #[must_use]
    pub fn new(settings: &Shedding, real: IpAddr) -> Self {
        let address = settings.address.unwrap_or(real);
        let port = settings.port.unwrap_or_default();
        let login = Authorization::new(
            settings.username.clone(),
            settings.password.clone(),
            settings.token.clone(),
        );
        Server {
            endpoint: HttpEndpoint::new(
                SocketAddr::new(address, port),
                settings.tls.clone(),
                login,
            ),
            timeout: settings.timeout(),
            address: settings.address,
            real,
        }
    }

    /// A text for this real: `{address}` and `{real}` are filled in.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        fields::fill(text, self.address, self.real)
    }

    /// Posts, and returns the status and the answer as far as it is text.
    ///
    /// # Errors
    /// Why there is no answer, with the address of the server.
    pub async fn post(
        &mut self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(StatusCode, String), String> {
        let deadline = Deadline::after(self.timeout);
        let response = self.endpoint.post(path, body, MAX_BODY, &deadline).await?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Ok((response.status, body))
    }

    /// What an unexpected answer means, in words for the operator.
    #[must_use]
    pub fn refusal(&self, path: &str, status: StatusCode, body: &str) -> String {
        let quoted: String = body
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_QUOTED)
            .collect();
        let quoted = match quoted.trim() {
            "" => String::new(),
            quoted => format!(": {quoted}"),
        };
        let advice = advice(status, "the path, the port and the node's name");
        self.endpoint
            .describe(path, &format!("answered {status}{quoted}{advice}"))
    }
}
