//! `lbctl add-real`.

use clap::Args;
use lb_proto::v1;

use super::target::Real;
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
    values::weight,
};

/// What to add.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    /// Its part of the new flows, 0 to 65535; 0 takes none [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = weight::read)]
    weight: Option<u32>,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::AddRealRequest {
        v1::AddRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(v1::RealSpec {
                weight: self.weight,
                drained: None,
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
