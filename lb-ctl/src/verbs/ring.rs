//! `lbctl ring`.

use clap::Args;
use lb_proto::v1;

use super::{Context, target::Vip};
use crate::{failure::Failure, output, values::what_if};

/// The arguments: a VIP, and weights to try.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    /// Show the share that these weights would move, without a change; an address that is not a real yet
    /// counts as a new one
    #[arg(long, value_name = "ADDRESS=WEIGHT", num_args = 1.., value_parser = what_if::read)]
    what_if: Vec<v1::WhatIf>,
}

/// Prints the shares and the checksum.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    let request = v1::GetRingRequest {
        id: arguments.target.id(),
        what_if: arguments.what_if,
    };
    let ring = client
        .get_ring(request)
        .await
        .map_err(Failure::refused(format!(
            "show the ring of {}",
            arguments.target
        )))?;
    output.print(&output::ring::Ring::from(ring.get_ref()))
}
