//! `lbctl undrain`.

use clap::Args;
use lb_proto::v1;

use super::{drain, target::Real};
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// Which real.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::UpdateRealRequest {
        drain::request(&self.target, false)
    }
}

/// Changes it and prints it as it is now.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let real = client
        .update_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("undrain {}", arguments.target)))?;
    output.print(&output::vip::Real::from(real.get_ref()))
}
