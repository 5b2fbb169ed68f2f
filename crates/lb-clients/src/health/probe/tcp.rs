//! The handshake of TCP: something listens. The kernel completes it for a frozen process, too.

use super::Finding;
use crate::health::Verdict;
use crate::peer::{Deadline, Target, connect};

/// Connects and closes.
pub async fn probe(target: &Target, deadline: &Deadline) -> Finding {
    connect(target, deadline).await?;
    Ok((Verdict::Healthy, "connected".to_owned()))
}
