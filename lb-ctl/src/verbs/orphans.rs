//! `lbctl orphans`: what a controller has made and nothing refers to any more.

use clap::Args;
use lb_proto::controller::v1;

use super::Context;
use crate::{connect::AtController, failure::Failure, output::orphan::Orphans};

/// Where the controller is.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    controller: AtController,
}

/// Shows all of them, and when they are removed.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut client = arguments.controller.connect().await?;
    let answer = client.list_orphans(v1::ListOrphansRequest {}).await;
    let answer = answer.map_err(Failure::refused("list what nothing refers to"))?;
    context.output.print(&Orphans::from(answer.get_ref()))
}
