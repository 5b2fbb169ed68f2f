//! `lbctl del-vip`.

use clap::Args;
use lb_proto::v1;

use super::target::Vip;
use crate::{
    connect::Client,
    failure::Failure,
    output::{Done, Output},
};

/// What to delete.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
}

impl Arguments {
    /// For the wire.
    pub fn request(&self) -> v1::DeleteVipRequest {
        v1::DeleteVipRequest {
            id: self.target.id(),
        }
    }
}

/// Deletes it and says so.
pub async fn run(mut client: Client, arguments: &Arguments, output: Output) -> Result<(), Failure> {
    client
        .delete_vip(arguments.request())
        .await
        .map_err(Failure::refused(format!("delete {}", arguments.target)))?;
    output.print(&Done {
        deleted: arguments.target.to_string(),
    })
}
