//! `lbctl status`.

use lb_proto::v1;

use crate::{
    connect::Client,
    failure::Failure,
    output::{self, Output},
};

/// Prints the agent's status, warnings first.
pub async fn run(mut client: Client, output: Output) -> Result<(), Failure> {
    let status = client
        .get_status(v1::GetStatusRequest {})
        .await
        .map_err(Failure::refused("read the status"))?;
    output.print(&output::status::Status::from(status.get_ref()))
}
