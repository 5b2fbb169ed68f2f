//! Requests that change something, as changes.

use std::sync::Arc;

use lb_proto::v1;

use super::{
    convert::{ID, VIP, real_id, vip_key},
    patch::{not_empty, real_patch, vip_patch},
};
use crate::control::ChangeRequest;
use lb_model::intent::{Change, Owner, Refusal, Writer};

/// A request that changes something.
pub trait Requested: Sized {
    /// Takes out who writes.
    fn writer(&mut self) -> Option<v1::Writer>;

    /// The change.
    ///
    /// # Errors
    /// A field has a value that it cannot have.
    fn change(self) -> Result<Change, Refusal>;

    /// The change with its writer.
    ///
    /// # Errors
    /// A field has a value that it cannot have.
    fn request(mut self, cause: &Arc<str>) -> Result<ChangeRequest, Refusal> {
        Ok(ChangeRequest {
            writer: writer(self.writer())?,
            change: self.change()?,
            cause: Arc::clone(cause),
        })
    }
}

/// The writer of a change.
fn writer(writer: Option<v1::Writer>) -> Result<Writer, Refusal> {
    let writer = writer.unwrap_or_default();
    let owner = match writer.owner.as_str() {
        "" => Owner::default(),
        text => text
            .parse()
            .map_err(|error: lb_model::intent::owner::OwnerError| {
                Refusal::invalid("writer.owner", text, error.to_string())
            })?,
    };
    if owner == Owner::File {
        return Err(Refusal::invalid(
            "writer.owner",
            owner,
            "only the agent's configuration file writes as `file`; give api or controller:NAME, or call Reload",
        ));
    }
    Ok(Writer {
        owner,
        force: writer.force,
        expected_revision: writer.expected_revision,
    })
}

/// Declares how a request becomes a change.
macro_rules! requested {
    ($( $message:ident: |$request:ident| $change:expr; )*) => {$(
        impl Requested for v1::$message {
            fn writer(&mut self) -> Option<v1::Writer> {
                self.writer.take()
            }

            fn change(self) -> Result<Change, Refusal> {
                let $request = self;
                Ok($change)
            }
        }
    )*};
}

requested! {
    AddVipRequest: |request| Change::AddVip {
        vip: vip_key(request.id, ID)?,
        patch: vip_patch(request.spec, None)?,
    };
    UpdateVipRequest: |request| Change::UpdateVip {
        vip: vip_key(request.id, ID)?,
        patch: not_empty(vip_patch(request.spec, request.update_mask)?)?,
    };
    DeleteVipRequest: |request| Change::DeleteVip {
        vip: vip_key(request.id, ID)?,
    };
    AddRealRequest: |request| Change::AddReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
        patch: real_patch(request.spec, None)?,
    };
    UpdateRealRequest: |request| Change::UpdateReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
        patch: not_empty(real_patch(request.spec, request.update_mask)?)?,
    };
    DeleteRealRequest: |request| Change::DeleteReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
    };
}

/// The change of one message of a stream.
pub fn of(
    change: Option<v1::apply_request::Change>,
    cause: &Arc<str>,
) -> Result<ChangeRequest, Refusal> {
    use v1::apply_request::Change as Request;
    match change {
        Some(Request::AddVip(request)) => request.request(cause),
        Some(Request::UpdateVip(request)) => request.request(cause),
        Some(Request::DeleteVip(request)) => request.request(cause),
        Some(Request::AddReal(request)) => request.request(cause),
        Some(Request::UpdateReal(request)) => request.request(cause),
        Some(Request::DeleteReal(request)) => request.request(cause),
        None => Err(Refusal::invalid(
            "change",
            "not set",
            "set one of add_vip, update_vip, delete_vip, add_real, update_real, delete_real",
        )),
    }
}
