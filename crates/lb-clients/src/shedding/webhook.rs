//! A web hook: a server that can tell clients to leave is told how many are to.
//!
//! Each period in which flows of a real are to be shed, `POST` of
//! `{"vip": "10.0.0.1:1883/tcp", "real": "10.1.0.2", "flows": 12}`. Any 2xx says that it is done or will be.

use lb_model::settings::{FieldError, Value};

use super::{Division, ShedKind, ShedRequest, ShedWay, Subject, server::Server};
use crate::peer::{fields, tls};

pub(super) static KIND: ShedKind = ShedKind::of::<WebhookWay>(
    "webhook",
    "A server is told by HTTP how many connections of the real it is to end.",
)
.completed_by(|shedding| {
    if shedding.contains_key("port") {
        return tls::validate_in(shedding);
    }
    Err(FieldError::missing(
        "port",
        "`webhook` has no port of its own; give one",
    ))
});

lb_model::settings! {
    /// A web hook.
    #[derive(Eq)]
    pub struct Webhook {
        /// Path of the request; may hold `{address}` and `{real}`.
        path: String = "/".to_owned();
    }
    validate(webhook) {
        fields::path(webhook.path.clone()).map(drop)
    }
}

/// Tells the server.
struct WebhookWay {
    path: String,
    server: Server,
    subject: Subject,
}

impl ShedWay for WebhookWay {
    type Settings = Webhook;

    fn divide(request: &ShedRequest) -> Division {
        Division {
            is_sent: request.flows > 0,
            is_taken: true,
        }
    }

    fn new(settings: Webhook, server: Server, subject: Subject) -> Self {
        WebhookWay {
            path: server.fill(&settings.path),
            server,
            subject,
        }
    }

    async fn shed(&mut self, request: ShedRequest) -> Result<(), String> {
        let body: Value = serde_json::json!({
            "vip": self.subject.vip.to_string(),
            "real": self.subject.real.to_string(),
            "flows": request.flows,
        });
        let (status, answer) = self.server.post(&self.path, &body).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(self.server.refusal(&self.path, status, &answer))
        }
    }
}
