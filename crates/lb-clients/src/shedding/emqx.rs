//! EMQX's evacuation of a node: clients are disconnected at a rate, those of MQTT 5 with a word, and their
//! sessions move to the other nodes. A node that is evacuated takes no new clients, so this is for a real that is
//! drained by hand, and ends when it is not any more.
//!
//! `POST /api/v5/load_rebalance/NODE/evacuation/start` and `/stop`, of EMQX Enterprise 5 and of EMQX 5.9 and
//! later. What runs already (`already_started`) or not any more (`not_started`) is answered with 400.

use http::StatusCode;

use super::{post::Post, shedder::Order};

/// Seconds until it begins: the ring has left the node by then.
const WAIT: &str = "1s";

/// Starts or ends the evacuation of this node, as the order says. That it is so already is no error.
///
/// # Errors
/// Why it was not done.
pub async fn tell(post: &mut Post, node: &str, order: Order) -> Result<(), String> {
    let (path, body, already) = request(node, order);
    let (status, answer) = post.send(&path, &body).await?;
    if status.is_success() || (status == StatusCode::BAD_REQUEST && answer.contains(already)) {
        Ok(())
    } else {
        Err(post.refusal(&path, status, &answer))
    }
}

/// Path, body, and what an answer says where it is so already.
fn request(node: &str, order: Order) -> (String, serde_json::Value, &'static str) {
    let path = |verb: &str| format!("/api/v5/load_rebalance/{node}/evacuation/{verb}");
    if order.drained {
        // At least one a second, as the API wants a positive number.
        let rate = order.rate.round().max(1.0) as u64;
        let body = serde_json::json!({
            "wait_health_check": WAIT,
            "conn_evict_rate": rate,
            "sess_evict_rate": rate,
        });
        (path("start"), body, "already_started")
    } else {
        (path("stop"), serde_json::json!({}), "not_started")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_api_wants_them() {
        let order = |drained, rate| Order {
            flows: 0,
            drained,
            rate,
        };
        let (path, body, _) = request("emqx@10.1.0.2", order(true, 99.6));
        assert_eq!(
            path,
            "/api/v5/load_rebalance/emqx@10.1.0.2/evacuation/start"
        );
        assert_eq!(body["conn_evict_rate"], 100);
        let (_, body, _) = request("emqx@10.1.0.2", order(true, 0.1));
        assert_eq!(body["conn_evict_rate"], 1);
        let (path, ..) = request("emqx@10.1.0.2", order(false, 10.0));
        assert!(path.ends_with("/evacuation/stop"), "{path}");
    }
}
