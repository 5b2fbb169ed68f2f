//! `lbctl stats`.

use std::time::Duration;

use clap::Args;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{
    failure::Failure,
    output::{
        rates,
        stats::{Stats, Wide},
    },
    values::duration,
};

/// The arguments: a VIP, or all, and how often.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
    /// Repeat until interrupted; a table has rates per second
    #[arg(long)]
    watch: bool,
    /// Time between two answers, 100ms to 1h
    #[arg(long, requires = "watch", value_name = "DURATION", value_parser = duration::read, default_value = "1s")]
    interval: Duration,
}

/// Prints the counters.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let attempt = format!("read the counters of {}", arguments.target);
    let id = arguments.target.id();
    if !arguments.watch {
        let stats = client
            .get_stats(v1::GetStatsRequest { id })
            .await
            .map_err(Failure::refused(attempt))?;
        let stats = Stats::from(stats.get_ref());
        if output.is_wide() {
            return output.print(&Wide(stats));
        }
        return output.print(&stats);
    }
    let request = v1::WatchStatsRequest {
        id,
        interval: Some(duration::to_proto(arguments.interval)),
    };
    let mut answers = client
        .watch_stats(request)
        .await
        .map_err(Failure::refused(attempt.as_str()))?
        .into_inner();
    let mut before: Option<v1::Stats> = None;
    while let Some(now) = answers
        .message()
        .await
        .map_err(Failure::refused(attempt.as_str()))?
    {
        if output.is_table() {
            if let Some(before) = &before {
                output.print_screen(&rates::table(before, &now))?;
            }
            before = Some(now);
        } else {
            output.print_item(&Stats::from(&now))?;
        }
    }
    Err(Failure::refused(attempt)(tonic::Status::unavailable(
        "the agent ended the stream",
    )))
}
