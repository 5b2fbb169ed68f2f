//! `lbctl set-real`.

use clap::Args;
use lb_proto::v1;

use super::target::Real;
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
    values::weight,
};

/// What to change.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    /// Its part of the new flows, 0 to 65535; 0 takes none and keeps the old ones
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = weight::read)]
    weight: u32,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::UpdateRealRequest {
        v1::UpdateRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(v1::RealSpec {
                weight: Some(self.weight),
                drained: None,
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["weight".to_owned()],
            }),
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
