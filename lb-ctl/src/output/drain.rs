//! Progress of a drain, for `drain --wait`.

use serde::Serialize;

use super::Human;

/// What `drain --wait` prints at each change.
#[derive(Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The VIP's name.
    pub vip: String,
    /// The real's address.
    pub address: String,
    /// Seconds since the drain began.
    pub seconds: f64,
    /// Flows that are left. See `exact`.
    pub flows: u64,
    /// False while flows that have been silent since the drain may be missing.
    pub exact: bool,
}

impl Human for Progress {
    fn human(&self) -> String {
        let more = if self.exact {
            ""
        } else {
            " that sent packets since; silent ones may exist until the VIP's window is over"
        };
        format!("{:>6} s  {} flows left{more}\n", self.seconds, self.flows)
    }
}
