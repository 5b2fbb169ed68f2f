//! Requests that change something, as changes.

use lb_proto::v1;

use super::{
    convert::{ID, VIP, real_id, vip_key},
    patch::{not_empty, real_patch, vip_patch},
};
use lb_model::intent::{Change, Refusal};

pub fn add_vip(request: v1::AddVipRequest) -> Result<Change, Refusal> {
    Ok(Change::AddVip {
        vip: vip_key(request.id, ID)?,
        patch: vip_patch(request.spec, None)?,
    })
}

pub fn update_vip(request: v1::UpdateVipRequest) -> Result<Change, Refusal> {
    Ok(Change::UpdateVip {
        vip: vip_key(request.id, ID)?,
        patch: not_empty(vip_patch(request.spec, request.update_mask)?)?,
    })
}

pub fn delete_vip(request: v1::DeleteVipRequest) -> Result<Change, Refusal> {
    Ok(Change::DeleteVip {
        vip: vip_key(request.id, ID)?,
    })
}

pub fn add_real(request: v1::AddRealRequest) -> Result<Change, Refusal> {
    Ok(Change::AddReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
        patch: real_patch(request.spec, None)?,
    })
}

pub fn update_real(request: v1::UpdateRealRequest) -> Result<Change, Refusal> {
    Ok(Change::UpdateReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
        patch: not_empty(real_patch(request.spec, request.update_mask)?)?,
    })
}

pub fn delete_real(request: v1::DeleteRealRequest) -> Result<Change, Refusal> {
    Ok(Change::DeleteReal {
        vip: vip_key(request.vip, VIP)?,
        real: real_id(&request.address, "address")?,
    })
}

pub fn of(change: v1::apply_request::Change) -> Result<Change, Refusal> {
    use v1::apply_request::Change as Request;
    match change {
        Request::AddVip(request) => add_vip(request),
        Request::UpdateVip(request) => update_vip(request),
        Request::DeleteVip(request) => delete_vip(request),
        Request::AddReal(request) => add_real(request),
        Request::UpdateReal(request) => update_real(request),
        Request::DeleteReal(request) => delete_real(request),
    }
}
