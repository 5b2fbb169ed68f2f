//! `lbctl load`.

use clap::Args;
use lb_model::vip::RealId;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{failure::Failure, output::readings::Readings};

/// The arguments: a VIP or all, and a real or all.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
    /// Only this real
    #[arg(long, value_name = "ADDRESS")]
    real: Option<RealId>,
}

/// Prints the last readings.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let answer = client
        .list_readings(v1::ListReadingsRequest {
            vip: arguments.target.id(),
            address: arguments
                .real
                .map_or_else(String::new, |real| real.to_string()),
        })
        .await
        .map_err(Failure::refused(format!(
            "read the load of {}",
            arguments.target
        )))?;
    output.print(&Readings::from(answer.get_ref()))
}
