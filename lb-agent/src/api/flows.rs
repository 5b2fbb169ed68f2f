//! Live flows per real.

use std::time::{Instant, SystemTime};

use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};

impl Api {
    pub(super) async fn flows(
        &self,
        request: v1::ListFlowsRequest,
    ) -> Result<v1::ListFlowsResponse, Status> {
        let vip = convert::optional_vip(request.id, convert::ID).map_err(refused)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        let reals = vips.iter().flat_map(|view| {
            view.reals.iter().map(|real| v1::RealFlows {
                vip: Some(convert::vip_id(&view.vip.address)),
                address: real.address.to_string(),
                flows: real.flows,
                exact: real.flows_exact,
                entries: real.entries,
                quiet_since: real.quiet_since.and_then(time_of),
                // A clock that is set says nothing about how long it is.
                quiet_for: real
                    .quiet_since
                    .and_then(|since| since.elapsed().try_into().ok()),
            })
        });
        Ok(v1::ListFlowsResponse {
            reals: reals.collect(),
        })
    }
}

/// The time of day at a moment.
fn time_of(moment: Instant) -> Option<prost_types::Timestamp> {
    let time = SystemTime::now().checked_sub(moment.elapsed())?;
    Some(convert::timestamp(time))
}
