//! `lbctl drain` and `lbctl undrain`: two directions of one change.

use clap::Args;
use lb_proto::v1;

use super::target::Real;
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
    pub fn request(&self, drained: bool) -> v1::UpdateRealRequest {
        v1::UpdateRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            spec: Some(v1::RealSpec {
                weight: None,
                drained: Some(drained),
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["drained".to_owned()],
            }),
        }
    }
}

/// Changes it and prints it as it is now.
pub async fn run(
    mut client: Client,
    arguments: &Arguments,
    drained: bool,
    output: Output,
) -> Result<(), Failure> {
    let verb = if drained { "drain" } else { "undrain" };
    let real = client
        .update_real(arguments.request(drained))
        .await
        .map_err(Failure::refused(format!("{verb} {}", arguments.target)))?;
    output.print(&output::vip::Real::from(real.get_ref()))
}
