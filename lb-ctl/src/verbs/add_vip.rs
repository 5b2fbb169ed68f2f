//! `lbctl add-vip`.

use clap::Args;
use lb_model::intent::VipSpec;
use lb_proto::v1::{self, apply_request::Change};

use super::{ChangeVerb, Context, target::Vip};
use crate::{failure::Failure, options::Options, output};

/// The arguments: a VIP and its settings.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    #[command(flatten)]
    options: Options<VipSpec>,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> Result<v1::AddVipRequest, Failure> {
        Ok(v1::AddVipRequest {
            id: self.target.id(),
            spec: Some(self.options.message()?),
            writer: None,
        })
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::AddVip(self.request()?))
    }
}

/// Adds the VIP and prints it with its defaults.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = arguments.request()?;
    let vip = context
        .client()
        .await?
        .add_vip(request)
        .await
        .map_err(Failure::refused(format!("add {}", arguments.target)))?;
    context.output.print(&output::vip::Vip::from(vip.get_ref()))
}
