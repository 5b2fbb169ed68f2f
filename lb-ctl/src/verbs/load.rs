//! `lbctl load`.

use std::net::IpAddr;

use clap::Args;
use lb_proto::v1;

use super::target::MaybeVip;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Output, readings::Readings},
};

/// Whose load.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: MaybeVip,
    /// Only this real
    #[arg(long, value_name = "ADDRESS")]
    real: Option<IpAddr>,
}

/// Prints what was last read.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
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
