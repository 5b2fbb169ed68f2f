//! How far a drain is, of `drain --wait`.

use serde::Serialize;

use super::Human;

/// What `drain --wait` prints, each time it changes.
#[derive(Debug, PartialEq, Serialize)]
pub struct Progress {
    /// The VIP's name.
    pub vip: String,
    /// The real's address.
    pub address: String,
    /// Since the drain began.
    pub seconds: f64,
    /// Flows that are left; see `exact`.
    pub flows: u64,
    /// False as long as flows that are silent since the drain may be missing.
    pub exact: bool,
}

impl Human for Progress {
    fn human(&self) -> String {
        let more = if self.exact {
            ""
        } else {
            " that spoke since; silent ones are known when the VIP's window is over"
        };
        format!("{:>6} s  {} flows left{more}\n", self.seconds, self.flows)
    }
}
