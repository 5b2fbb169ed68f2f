//! Reals: add, update, delete.

use lb_proto::v1;
use tonic::Status;

use super::{Api, convert, error::refused_real, vips::gone};
use crate::control::ChangeRequest;

impl Api {
    pub(super) async fn add_or_update_real(
        &self,
        request: ChangeRequest,
    ) -> Result<v1::Real, Status> {
        let id = request.change.real();
        let view = self.control.change(request).await.map_err(refused_real)?;
        let real = view
            .as_ref()
            .zip(id)
            .and_then(|(view, real)| view.real(real));
        real.map(convert::real).ok_or_else(gone)
    }

    pub(super) async fn delete_real(
        &self,
        request: ChangeRequest,
    ) -> Result<v1::DeleteRealResponse, Status> {
        self.control.change(request).await.map_err(refused_real)?;
        Ok(v1::DeleteRealResponse {})
    }
}
