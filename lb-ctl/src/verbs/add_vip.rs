//! `lbctl add-vip`.

use clap::Args;
use lb_proto::v1;

use super::{target::Vip, vip_options::VipOptions};
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// What to add.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    #[command(flatten)]
    options: VipOptions,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::AddVipRequest {
        v1::AddVipRequest {
            id: self.target.id(),
            spec: Some(self.options.spec()),
        }
    }
}

/// Adds it and prints it with its defaults.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let vip = client
        .add_vip(arguments.request())
        .await
        .map_err(Failure::refused(format!("add {}", arguments.target)))?;
    output.print(&output::vip::Vip::from(vip.get_ref()))
}
