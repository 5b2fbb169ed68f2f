//! `lbctl audit`: who changed what.

use std::time::{Duration, SystemTime};

use clap::Args;
use lb_proto::controller::v1;

use super::Context;
use crate::{connect::AtController, failure::Failure, output::access::Entries, values::duration};

/// What to show, and where the controller is.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    controller: AtController,
    /// Only what happened in this time until now, such as 90m or 2d
    #[arg(long, value_name = "DURATION", value_parser = duration::read)]
    since: Option<Duration>,
    /// Only what concerns this project: its name or id
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// The newest entries at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: u32,
}

/// Shows the log, the newest last.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let since = arguments.since.map(|since| {
        let time = SystemTime::now().checked_sub(since);
        prost_types::Timestamp::from(time.unwrap_or(SystemTime::UNIX_EPOCH))
    });
    let mut client = arguments.controller.access().await?;
    let request = v1::ListAuditRequest {
        project: arguments.project.unwrap_or_default(),
        since,
        most: arguments.most,
    };
    let answer = client.list_audit(request).await;
    let answer = answer.map_err(Failure::refused("read the audit log"))?;
    let entries = answer.get_ref().entries.iter().rev().map(Into::into);
    context.output.print(&Entries(entries.collect()))
}
