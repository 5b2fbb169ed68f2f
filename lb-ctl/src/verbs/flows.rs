//! `lbctl flows`.

use clap::Args;
use lb_proto::v1;

use super::target::MaybeVip;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Output, flows::Flows},
};

/// Whose flows.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
}

/// Prints the live flows per real.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let answer = client
        .list_flows(v1::ListFlowsRequest {
            id: arguments.target.id(),
        })
        .await
        .map_err(Failure::refused(format!(
            "count the flows of {}",
            arguments.target
        )))?;
    output.print(&Flows::from(answer.get_ref()))
}
