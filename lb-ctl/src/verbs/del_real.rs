//! `lbctl del-real`.

use clap::Args;
use lb_proto::v1;

use super::target::Real;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Done, Output},
};

/// What to delete.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::DeleteRealRequest {
        v1::DeleteRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
        }
    }
}

/// Deletes it and says so.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    client
        .delete_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("delete {}", arguments.target)))?;
    output.print(&Done {
        deleted: arguments.target.to_string(),
    })
}
