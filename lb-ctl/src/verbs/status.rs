//! `lbctl status`.

use clap::Args;
use lb_proto::v1;

use super::Context;
use crate::{failure::Failure, output};

/// There are no arguments.
#[derive(Args, Debug)]
pub struct Arguments {}

/// Prints the agent's status, warnings first.
pub async fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let status = context
        .client()
        .await?
        .get_status(v1::GetStatusRequest {})
        .await
        .map_err(Failure::refused("read the status"))?;
    context
        .output
        .print(&output::status::Status::from(status.get_ref()))
}
