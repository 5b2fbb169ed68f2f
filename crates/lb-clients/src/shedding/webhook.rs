//! A web hook: whoever can tell clients to go is told how many are to.
//!
//! Each period in which flows of a real are to be shed, `POST` of
//! `{"vip": "10.0.0.1:1883/tcp", "real": "10.1.0.2", "flows": 12}`; any 2xx says that it is done or will be.

use std::net::IpAddr;

use lb_model::vip::VipAddress;

use super::{post::Post, shedder::Order};

/// Tells it.
///
/// # Errors
/// Why it could not be told.
pub async fn tell(
    post: &mut Post,
    path: &str,
    vip: VipAddress,
    real: IpAddr,
    order: Order,
) -> Result<(), String> {
    let body = serde_json::json!({
        "vip": vip.to_string(),
        "real": real.to_string(),
        "flows": order.flows,
    });
    let (status, answer) = post.send(path, &body).await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(post.refusal(path, status, &answer))
    }
}
