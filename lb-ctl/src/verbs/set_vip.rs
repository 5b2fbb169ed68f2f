//! `lbctl set-vip`.

use clap::{ArgGroup, Args};
use lb_proto::v1;

use super::{target::Vip, vip_options::VipOptions};
use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// What to change.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("changes")
    .args([
        "forward",
        "ring",
        "track",
        "window",
        "slots",
        "check",
        "on_down",
        "when_empty",
        "load",
        "steering",
        "shed",
    ])
    .required(true)
    .multiple(true))]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    #[command(flatten)]
    options: VipOptions,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::UpdateVipRequest {
        v1::UpdateVipRequest {
            id: self.target.id(),
            spec: Some(self.options.spec()),
            update_mask: Some(self.options.mask()),
        }
    }
}

/// Changes it and prints it as it is now.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let vip = client
        .update_vip(arguments.request())
        .await
        .map_err(Failure::refused(format!("change {}", arguments.target)))?;
    output.print(&output::vip::Vip::from(vip.get_ref()))
}
