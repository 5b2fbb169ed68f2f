//! `lbctl why`.

use std::net::IpAddr;

use clap::Args;
use lb_proto::v1;

use super::target::MaybeVip;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Output, explanation::Explanations},
};

/// Which real.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The real's IPv4 or IPv6 address
    address: IpAddr,
    #[command(flatten)]
    target: MaybeVip,
}

/// Prints why the real has the state and the weight it has, for each of its VIPs.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let answer = client
        .explain(v1::ExplainRequest {
            vip: arguments.target.id(),
            address: arguments.address.to_string(),
        })
        .await
        .map_err(Failure::refused(format!("explain {}", arguments.address)))?;
    output.print(&Explanations::from(answer.get_ref()))
}
