//! `lbctl set-real`.

use clap::{ArgGroup, Args};
use lb_proto::v1;

use super::{real_options::RealOptions, target::Real};
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// What to change.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("changes")
    .args(["weight", "check", "load"])
    .required(true)
    .multiple(true))]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    #[command(flatten)]
    options: RealOptions,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::UpdateRealRequest {
        v1::UpdateRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(self.options.spec()),
            update_mask: Some(self.options.mask()),
        }
    }
}

/// Changes it and prints it as it is now.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let real = client
        .update_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("change {}", arguments.target)))?;
    output.print(&output::vip::Real::from(real.get_ref()))
}
