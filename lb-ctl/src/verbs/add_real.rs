//! `lbctl add-real`.

use clap::Args;
use lb_model::intent::RealSpec;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context,
    target::{Real, Writing},
};
use crate::{failure::Failure, options::Options, output};

/// The arguments: a real and its settings.
#[derive(Args, Debug)]
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
    pub fn request(&self) -> Result<v1::AddRealRequest, Failure> {
        Ok(v1::AddRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(self.options.message()?),
            writer: self.writing.writer(),
        })
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::AddReal(self.request()?))
    }
}

/// Adds the real and prints it with its defaults.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = arguments.request()?;
    let real = context
        .client()
        .await?
        .add_real(request)
        .await
        .map_err(Failure::refused(format!("add {}", arguments.target)))?;
    context
        .output
        .print(&output::vip::Real::from(real.get_ref()))
}
