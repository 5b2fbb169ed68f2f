//! `lbctl set-real`.

use clap::Args;
use lb_model::intent::RealSpec;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context,
    target::{Real, Writing},
};
use crate::{
    failure::Failure,
    options::{GROUP, Options},
    output,
};

/// The arguments: a real, and the settings to change.
#[derive(Args, Debug)]
#[command(mut_group(GROUP, |group| group.required(true)))]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    #[command(flatten)]
    options: Options<RealSpec>,
    #[command(flatten)]
    writing: Writing,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> Result<v1::UpdateRealRequest, Failure> {
        Ok(v1::UpdateRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(self.options.message()?),
            update_mask: Some(self.options.mask()),
            writer: self.writing.writer(),
        })
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::UpdateReal(self.request()?))
    }
}

/// Changes the real and prints its new state.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = arguments.request()?;
    let real = context
        .client()
        .await?
        .update_real(request)
        .await
        .map_err(Failure::refused(format!("change {}", arguments.target)))?;
    context
        .output
        .print(&output::vip::Real::from(real.get_ref()))
}
