//! What is asked of whoever can end connections: one bounded POST of JSON.

use std::{net::IpAddr, time::Duration};

use http::StatusCode;

use super::spec::Asked;
use crate::peer::{
    Deadline,
    place::{Place, advice},
};

/// Bytes of an answer that are read at most: it says no more than what went wrong.
const MAX_BODY: usize = 4 << 10;
/// Characters of an answer that are told.
const SAID: usize = 200;

/// A place to post to.
pub struct Post {
    place: Place,
    timeout: Duration,
}

impl Post {
    /// Whom to ask about this real.
    pub fn new(asked: &Asked, real: IpAddr) -> Self {
        Post {
            place: Place::new(asked.target(real), asked.tls.clone(), asked.login.clone()),
            timeout: asked.timeout,
        }
    }

    /// Posts, and gives back what was answered, as far as it is text.
    ///
    /// # Errors
    /// Why there is no answer, with the place.
    pub async fn send(
        &mut self,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<(StatusCode, String), String> {
        let deadline = Deadline::after(self.timeout);
        let response = self.place.post(path, body, MAX_BODY, &deadline).await?;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        Ok((response.status, body))
    }

    /// What another answer than the wanted one means, in words for the operator.
    pub fn refusal(&self, path: &str, status: StatusCode, body: &str) -> String {
        let said: String = body
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SAID)
            .collect();
        let said = match said.trim() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        let advice = advice(status, "the path, the port and the node's name");
        self.place
            .says(path, &format!("answered {status}{said}{advice}"))
    }
}
