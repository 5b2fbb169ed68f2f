//! `lbctl diff`.

use std::path::PathBuf;

use clap::Args;
use lb_proto::v1::{self, plan_request::Source};

use super::{Context, apply};
use crate::{failure::Failure, output::plan::Plan};

/// Which file.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A configuration file of the agent; `-` is standard input
    file: PathBuf,
    /// As with `reload --force`: objects of other owners that the file names would be taken over
    #[arg(long)]
    force: bool,
}

/// Prints what the agent would change if this were its configuration file.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (name, configuration) = apply::read(Some(&arguments.file))?;
    let plan = context
        .client()
        .await?
        .plan(v1::PlanRequest {
            source: Some(Source::Configuration(configuration)),
            force: arguments.force,
        })
        .await
        .map_err(Failure::refused(format!("compare {name}")))?;
    let plan = Plan::of(plan.get_ref(), true);
    context.output.print(&plan)?;
    plan.refused()
}
