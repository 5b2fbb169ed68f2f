//! `lbctl list`.

use clap::Args;
use lb_proto::v1;

use super::{Context, target::MaybeVip};
use crate::{
    failure::Failure,
    output::{
        explanation::{Explanations, Wide},
        vip::{Vip, Vips},
    },
};

/// The arguments: a VIP, or all.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
}

/// Prints the VIPs with their reals.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let vips = client
        .list_vips(v1::ListVipsRequest {
            id: arguments.target.id(),
        })
        .await
        .map_err(Failure::refused(format!("list {}", arguments.target)))?;
    let vips = vips.get_ref().vips.iter().map(Vip::from).collect();
    if output.is_wide() {
        let answer = client
            .explain(v1::ExplainRequest {
                vip: arguments.target.id(),
                address: String::new(),
            })
            .await
            .map_err(Failure::refused(format!("list {}", arguments.target)))?;
        let reals = Explanations::from(answer.get_ref());
        return output.print(&Wide { reals, vips });
    }
    output.print(&Vips(vips))
}
