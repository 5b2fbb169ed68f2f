//! Requests that change something, as changes.

use lb_proto::v1;

use super::{
    convert::{ID, VIP, address, vip_address},
    patch::{not_empty, real_patch, vip_patch},
};
use crate::intent::{Change, Refusal};

pub fn add_vip(request: v1::AddVipRequest) -> Result<Change, Refusal> {
    Ok(Change::AddVip {
        vip: vip_address(request.id, ID)?,
        patch: vip_patch(request.spec, None)?,
    })
}

pub fn update_vip(request: v1::UpdateVipRequest) -> Result<Change, Refusal> {
    Ok(Change::UpdateVip {
        vip: vip_address(request.id, ID)?,
        patch: not_empty(vip_patch(request.spec, request.update_mask)?)?,
    })
}

pub fn delete_vip(request: v1::DeleteVipRequest) -> Result<Change, Refusal> {
    Ok(Change::DeleteVip {
        vip: vip_address(request.id, ID)?,
    })
}

pub fn add_real(request: v1::AddRealRequest) -> Result<Change, Refusal> {
    Ok(Change::AddReal {
        vip: vip_address(request.vip, VIP)?,
        real: address(&request.address, "address")?,
        patch: real_patch(request.spec, None)?,
    })
}

pub fn update_real(request: v1::UpdateRealRequest) -> Result<Change, Refusal> {
    Ok(Change::UpdateReal {
        vip: vip_address(request.vip, VIP)?,
        real: address(&request.address, "address")?,
        patch: not_empty(real_patch(request.spec, request.update_mask)?)?,
    })
}

pub fn delete_real(request: v1::DeleteRealRequest) -> Result<Change, Refusal> {
    Ok(Change::DeleteReal {
        vip: vip_address(request.vip, VIP)?,
        real: address(&request.address, "address")?,
    })
}

pub fn of(change: v1::apply_request::Change) -> Result<Change, Refusal> {
    use v1::apply_request::Change as Asked;
    match change {
        Asked::AddVip(request) => add_vip(request),
        Asked::UpdateVip(request) => update_vip(request),
        Asked::DeleteVip(request) => delete_vip(request),
        Asked::AddReal(request) => add_real(request),
        Asked::UpdateReal(request) => update_real(request),
        Asked::DeleteReal(request) => delete_real(request),
    }
}
