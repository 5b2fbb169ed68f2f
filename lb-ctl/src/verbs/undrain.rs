//! `lbctl undrain`.

use clap::Args;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context, drain,
    target::{Real, Writing},
};
use crate::{failure::Failure, output};

/// The arguments: a real.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    #[command(flatten)]
    writing: Writing,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> v1::UpdateRealRequest {
        let spec = v1::RealSpec {
            drained: Some(false),
            evacuated: Some(false),
            ..v1::RealSpec::default()
        };
        drain::request(&self.target, &self.writing, spec)
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::UpdateReal(self.request()))
    }
}

/// Changes the real and prints its new state.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let real = client
        .update_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("undrain {}", arguments.target)))?;
    output.print(&output::vip::Real::from(real.get_ref()))
}
