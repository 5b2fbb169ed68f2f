//! `lbctl doctor`.

use clap::Args;
use lb_proto::v1;

use super::Context;
use crate::{failure::Failure, output::doctor::Diagnosis};

/// The arguments: none.
#[derive(Args, Debug)]
pub struct Arguments {}

/// Prints what the agent finds wrong, and what mends it. Fails if there is a problem.
pub async fn run(context: &Context, _: Arguments) -> Result<(), Failure> {
    let mut client = context.client().await?;
    let answer = client
        .diagnose(v1::DiagnoseRequest {})
        .await
        .map_err(Failure::refused("examine the balancer".to_owned()))?;
    let diagnosis = Diagnosis::from(answer.get_ref());
    context.output.print(&diagnosis)?;
    match diagnosis.problems() {
        0 => Ok(()),
        problems => Err(Failure::Problems(problems)),
    }
}
