//! EMQX's evacuation of a node: clients are disconnected at a rate, those of MQTT 5 with a reason, and their
//! sessions move to the other nodes. A node that is evacuated takes no new clients, so this is for a real that is
//! drained by hand, and ends when it is not any more.
//!
//! `POST /api/v5/load_rebalance/NODE/evacuation/start` and `/stop`, of EMQX Enterprise 5 and of EMQX 5.9 and
//! later. What runs already (`already_started`) or not any more (`not_started`) is answered with 400.

use http::StatusCode;
use lb_model::settings::FieldError;

use super::{Division, ShedKind, ShedRequest, ShedWay, Subject, server::Server};
use crate::peer::tls;

/// Seconds until it begins: the ring has left the node by then.
const WAIT: &str = "1s";
/// Port of EMQX's HTTP API.
const PORT: u16 = 18_083;
/// Port of EMQX's HTTP API over TLS.
const TLS_PORT: u16 = 18_084;

pub(super) static KIND: ShedKind = ShedKind::of::<EmqxWay>(
    "emqx",
    "EMQX evacuates a real that is drained by hand; the data plane resets flows of others.",
)
.completed_by(|shedding| {
    let port = if shedding.contains_key("tls") {
        TLS_PORT
    } else {
        PORT
    };
    shedding.entry("port").or_insert_with(|| port.into());
    tls::validate_in(shedding)
});

lb_model::settings! {
    /// EMQX's evacuation of a node.
    #[derive(Eq)]
    pub struct Emqx {
        /// Name of the node as `emqx ctl cluster status` writes it; may hold `{address}` and `{real}`.
        // As EMQX names its nodes by default.
        node: String = "emqx@{address}".to_owned();
    }
    validate(emqx) {
        // The name stands in a path.
        let is_path_segment = !emqx.node.contains(['/', '?', '#', ' ']) && emqx.node.is_ascii();
        if emqx.node.is_empty() || !is_path_segment || emqx.node.contains(char::is_control) {
            return Err(FieldError::new(
                "node",
                &emqx.node,
                "not the name of a node, write it as `emqx ctl cluster status` does, as in emqx@10.0.0.1",
            ));
        }
        Ok(())
    }
}

/// Starts and ends the evacuation of one node.
struct EmqxWay {
    node: String,
    server: Server,
    subject: Subject,
    /// Whether EMQX evacuates the node on our request. An evacuation that somebody else began is not ended.
    is_evacuated: bool,
}

impl ShedWay for EmqxWay {
    type Settings = Emqx;

    fn divide(request: &ShedRequest) -> Division {
        Division {
            // The end of a drain has to be sent, too.
            is_sent: true,
            is_taken: request.is_drained,
        }
    }

    fn new(settings: Emqx, server: Server, subject: Subject) -> Self {
        EmqxWay {
            node: server.fill(&settings.node),
            server,
            subject,
            is_evacuated: false,
        }
    }

    async fn shed(&mut self, request: ShedRequest) -> Result<(), String> {
        if self.is_evacuated == request.is_drained {
            return Ok(());
        }
        let Evacuation {
            path,
            body,
            done_already,
        } = evacuation(&self.node, request);
        let (status, answer) = self.server.post(&path, &body).await?;
        let is_done_already = status == StatusCode::BAD_REQUEST && answer.contains(done_already);
        if !status.is_success() && !is_done_already {
            return Err(self.server.refusal(&path, status, &answer));
        }
        self.is_evacuated = request.is_drained;
        let Subject { vip, real } = self.subject;
        let verb = if request.is_drained { "starts" } else { "ends" };
        tracing::info!("VIP {vip}, real {real}: EMQX {verb} the evacuation of the node");
        Ok(())
    }
}

/// A request to EMQX.
struct Evacuation {
    path: String,
    body: serde_json::Value,
    /// What the answer holds if the node is in this state already.
    done_already: &'static str,
}

fn evacuation(node: &str, request: ShedRequest) -> Evacuation {
    let path = |verb: &str| format!("/api/v5/load_rebalance/{node}/evacuation/{verb}");
    if request.is_drained {
        // At least one a second, as the API wants a positive number.
        let rate = request.rate.round().max(1.0) as u64;
        Evacuation {
            path: path("start"),
            body: serde_json::json!({
                "wait_health_check": WAIT,
                "conn_evict_rate": rate,
                "sess_evict_rate": rate,
            }),
            done_already: "already_started",
        }
    } else {
        Evacuation {
            path: path("stop"),
            body: serde_json::json!({}),
            done_already: "not_started",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_api_wants_them() {
        let request = |is_drained, rate| ShedRequest {
            flows: 0,
            is_drained,
            rate,
        };
        let start = evacuation("emqx@10.1.0.2", request(true, 99.6));
        assert_eq!(
            start.path,
            "/api/v5/load_rebalance/emqx@10.1.0.2/evacuation/start"
        );
        assert_eq!(start.body["conn_evict_rate"], 100);
        let slow = evacuation("emqx@10.1.0.2", request(true, 0.1));
        assert_eq!(slow.body["conn_evict_rate"], 1);
        let stop = evacuation("emqx@10.1.0.2", request(false, 10.0));
        assert!(stop.path.ends_with("/evacuation/stop"), "{}", stop.path);
    }
}
