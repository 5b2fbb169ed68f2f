//! Live flows, for `flows`.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::names;

/// Live flows of a real of a VIP.
#[derive(Debug, PartialEq, Serialize)]
pub struct RealFlows {
    /// The VIP's name.
    pub vip: String,
    /// The real's address.
    pub address: String,
    /// The number of live flows.
    pub flows: u64,
    /// False if `flows` is an estimate.
    pub exact: bool,
    /// Entries of the flow table that name this real.
    pub entries: u64,
}

/// What `flows` prints.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Flows(pub Vec<RealFlows>);

impl From<&v1::ListFlowsResponse> for Flows {
    fn from(answer: &v1::ListFlowsResponse) -> Self {
        let real = |real: &v1::RealFlows| RealFlows {
            vip: names::vip(real.vip.as_ref()),
            address: real.address.clone(),
            flows: real.flows,
            exact: real.exact,
            entries: real.entries,
        };
        Flows(answer.reals.iter().map(real).collect())
    }
}

impl Human for Flows {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "no real; `lbctl add-real` adds one\n".to_owned();
        }
        let rows = self.0.iter().map(|real| {
            vec![
                real.vip.clone(),
                real.address.clone(),
                table::flows(real.flows, real.exact),
                real.entries.to_string(),
            ]
        });
        table::layout(
            &[
                ("VIP", false),
                ("REAL", false),
                ("FLOWS", true),
                ("ENTRIES", true),
            ],
            rows,
        )
    }
}
