//! `lbctl del-real`.

use clap::Args;
use lb_proto::v1::{self, apply_request::Change};

use super::{
    ChangeVerb, Context,
    target::{Real, Writing},
};
use crate::{failure::Failure, output::Done};

/// The arguments: the object to delete.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    target: Real,
    #[command(flatten)]
    writing: Writing,
}

impl Arguments {
    /// Builds the request.
    pub fn request(&self) -> v1::DeleteRealRequest {
        v1::DeleteRealRequest {
            vip: self.target.vip.id(),
            address: self.target.address.to_string(),
            writer: self.writing.writer(),
        }
    }
}

impl ChangeVerb for Arguments {
    fn change(&self) -> Result<Change, Failure> {
        Ok(Change::DeleteReal(self.request()))
    }
}

/// Deletes the object and reports that.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (mut client, output) = (context.client().await?, context.output);
    client
        .delete_real(arguments.request())
        .await
        .map_err(Failure::refused(format!("delete {}", arguments.target)))?;
    output.print(&Done {
        deleted: arguments.target.to_string(),
    })
}
