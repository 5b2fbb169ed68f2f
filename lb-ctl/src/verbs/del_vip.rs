//! `lbctl del-vip`.

use clap::Args;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context,
    target::{Vip, Writing},
};
use crate::{failure::Failure, output::Done};

/// The arguments: the object to delete.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Vip,
    #[command(flatten)]
    writing: Writing,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> v1::DeleteVipRequest {
        v1::DeleteVipRequest {
            id: self.target.id(),
            writer: self.writing.writer(),
        }
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::DeleteVip(self.request()))
    }
}

/// Deletes the object and reports that.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    client
        .delete_vip(arguments.request())
        .await
        .map_err(Failure::refused(format!("delete {}", arguments.target)))?;
    output.print(&Done {
        deleted: arguments.target.to_string(),
    })
}
