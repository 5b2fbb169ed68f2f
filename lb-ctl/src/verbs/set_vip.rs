//! `lbctl set-vip`.

use clap::Args;
use lb_model::intent::VipSpec;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context,
    target::{Vip, Writing},
};
use crate::{
    failure::Failure,
    options::{GROUP, Options},
    output,
};

/// The arguments: a VIP, and the settings to change.
#[derive(Args, Debug)]
#[command(mut_group(GROUP, |group| group.required(true)))]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    #[command(flatten)]
    options: Options<VipSpec>,
    #[command(flatten)]
    writing: Writing,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> Result<v1::UpdateVipRequest, Failure> {
        Ok(v1::UpdateVipRequest {
            id: self.target.id(),
            spec: Some(self.options.message()?),
            update_mask: Some(self.options.mask()),
            writer: self.writing.writer(),
        })
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::UpdateVip(self.request()?))
    }
}

/// Changes the VIP and prints its new state.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = arguments.request()?;
    let vip = context
        .client()
        .await?
        .update_vip(request)
        .await
        .map_err(Failure::refused(format!("change {}", arguments.target)))?;
    context.output.print(&output::vip::Vip::from(vip.get_ref()))
}
