//! `lbctl why`.

use clap::Args;
use lb_model::vip::RealId;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{failure::Failure, output::explanation::Explanations};

/// The arguments: a real, or all.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The real [default: all reals]
    address: Option<RealId>,
    #[command(flatten)]
    target: MaybeVip,
}

/// Prints why a real, or every real, has its state and its weight, for each of its VIPs.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let address = arguments.address.map(|address| address.to_string());
    let answer = client
        .explain(v1::ExplainRequest {
            vip: arguments.target.id(),
            address: address.clone().unwrap_or_default(),
        })
        .await
        .map_err(Failure::refused(format!(
            "explain {}",
            address.as_deref().unwrap_or("all reals")
        )))?;
    output.print(&Explanations::from(answer.get_ref()))
}
