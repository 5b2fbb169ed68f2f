//! `lbctl watch`.

use clap::Args;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{failure::Failure, output::event::Event};

/// The arguments: a VIP, or all.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
    /// Begin with what has changed since this revision, which an event named, instead of everything
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
}

/// Prints events until it is interrupted or the agent ends.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let attempt = format!("watch {}", arguments.target);
    let mut events = client
        .watch(v1::WatchRequest {
            id: arguments.target.id(),
            since_revision: arguments.since.unwrap_or_default(),
        })
        .await
        .map_err(Failure::refused(attempt.as_str()))?
        .into_inner();
    while let Some(event) = events
        .message()
        .await
        .map_err(Failure::refused(attempt.as_str()))?
    {
        output.print_item(&Event::from(&event))?;
    }
    Err(Failure::refused(attempt)(tonic::Status::unavailable(
        "the agent ended the stream",
    )))
}
