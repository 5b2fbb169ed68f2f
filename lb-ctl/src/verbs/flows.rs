//! `lbctl flows`.

use clap::Args;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{failure::Failure, output::flows::Flows};

/// The arguments: a VIP, or all.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
}

/// Prints the live flows per real.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
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
