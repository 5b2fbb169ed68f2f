//! VIPs: add, update, delete, list.

use lb_proto::v1;
use tonic::Status;

use super::{
    Api, convert,
    error::{refused, unread},
};
use crate::control::{ChangeRequest, VipView};

impl Api {
    async fn change_vip(&self, request: ChangeRequest) -> Result<Option<VipView>, Status> {
        self.control.change(request).await.map_err(refused)
    }

    pub(super) async fn add_or_update_vip(
        &self,
        request: ChangeRequest,
    ) -> Result<v1::Vip, Status> {
        let view = self.change_vip(request).await?;
        view.as_ref().map(convert::vip).ok_or_else(gone)
    }

    pub(super) async fn delete_vip(
        &self,
        request: ChangeRequest,
    ) -> Result<v1::DeleteVipResponse, Status> {
        self.change_vip(request).await?;
        Ok(v1::DeleteVipResponse {})
    }

    pub(super) async fn list_vips(
        &self,
        request: v1::ListVipsRequest,
    ) -> Result<v1::ListVipsResponse, Status> {
        let vip = convert::optional_vip(request.id, convert::ID).map_err(refused)?;
        let vips = self.control.list(vip).await.map_err(unread)?;
        Ok(v1::ListVipsResponse {
            vips: vips.iter().map(convert::vip).collect(),
        })
    }
}

/// Another client was faster between the change and the answer.
pub(super) fn gone() -> Status {
    Status::aborted(
        "the change was made, but another one has deleted its object since; list to see what there is",
    )
}
