//! `lbctl reload`.

use clap::Args;
use lb_proto::v1;

use super::Context;
use crate::{failure::Failure, output::plan::Plan};

/// How the file is followed.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Take over objects that the file names but that belong to other owners
    #[arg(long)]
    force: bool,
    /// Change nothing; show what would change, and the share of new flows that would move
    #[arg(long)]
    dry_run: bool,
}

/// Has the agent read its configuration file again, and prints what that changed.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let plan = context
        .client()
        .await?
        .reload(v1::ReloadRequest {
            force: arguments.force,
            dry_run: arguments.dry_run,
        })
        .await
        .map_err(Failure::refused("reload the configuration file"))?;
    let plan = Plan::of(plan.get_ref(), arguments.dry_run);
    context.output.print(&plan)?;
    plan.refused()
}
