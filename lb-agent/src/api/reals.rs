//! Reals: add, update, delete.

use std::sync::Arc;

use lb_proto::v1;
use tonic::Status;

use super::{Api, change, convert, error::refused_real, vips::gone};
use lb_model::intent::Change;

impl Api {
    pub(super) async fn add_or_update_real(
        &self,
        change: Change,
        cause: Arc<str>,
    ) -> Result<v1::Real, Status> {
        let id = change.real();
        let view = self
            .control
            .change(change, cause)
            .await
            .map_err(refused_real)?;
        let real = view
            .as_ref()
            .zip(id)
            .and_then(|(view, real)| view.real(real.address));
        real.map(convert::real).ok_or_else(gone)
    }

    pub(super) async fn delete_real(
        &self,
        request: v1::DeleteRealRequest,
        cause: Arc<str>,
    ) -> Result<v1::DeleteRealResponse, Status> {
        let change = change::delete_real(request).map_err(refused_real)?;
        self.control
            .change(change, cause)
            .await
            .map_err(refused_real)?;
        Ok(v1::DeleteRealResponse {})
    }
}
