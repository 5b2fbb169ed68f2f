//! `lbctl add-real`.

use clap::Args;
use lb_proto::v1;

use super::{real_options::RealOptions, target::Real};
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// What to add.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    /// Takes no new flows until `undrain`
    #[arg(long)]
    drained: bool,
    #[command(flatten)]
    options: RealOptions,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::AddRealRequest {
        v1::AddRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(v1::RealSpec {
                drained: self.drained.then_some(true),
                ..self.options.spec()
            }),
        }
    }
}

/// Adds it and prints it with its defaults.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let real = client
        .add_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("add {}", arguments.target)))?;
    output.print(&output::vip::Real::from(real.get_ref()))
}
