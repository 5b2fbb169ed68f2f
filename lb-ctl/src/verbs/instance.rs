//! `lbctl instance`.

use clap::{Args, Subcommand};
use lb_proto::controller::v1::{OperateInstanceRequest, Operation};

use super::Context;
use crate::{connect::AtController, failure::Failure};

/// The arguments: what to do, and where the controller is.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    controller: AtController,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let an instance do nothing, with its memory, until it is resumed; it keeps its place and is not replaced
    Pause(Named),
    /// Write an instance to disk until it is resumed; it gives its memory back
    Suspend(Named),
    /// Let a paused or suspended instance go on; it serves when its check passes
    #[command(visible_alias = "restore")]
    Resume(Named),
    /// Stop an instance politely, and start it
    Reboot(Named),
    /// Make another instance of the pool that is as this one is now, with a name and an address of its own
    Clone(Named),
    /// Move an instance to another host while it runs; its connections stay
    #[command(visible_alias = "migrate")]
    Move(Moved),
}

#[derive(Args, Debug)]
struct Named {
    /// Name of the instance: POOL-NUMBER-EPOCH
    name: String,
}

#[derive(Args, Debug)]
struct Moved {
    /// Name of the instance: POOL-NUMBER-EPOCH
    name: String,
    /// The host that it moves to; `local` is the controller's own
    host: String,
}

/// Does it.
pub async fn run(_: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut host = String::new();
    let (word, operation, instance) = match arguments.verb {
        Verb::Pause(instance) => ("pause", Operation::Pause, instance),
        Verb::Suspend(instance) => ("suspend", Operation::Suspend, instance),
        Verb::Resume(instance) => ("resume", Operation::Resume, instance),
        Verb::Reboot(instance) => ("reboot", Operation::Reboot, instance),
        Verb::Clone(instance) => ("clone", Operation::Clone, instance),
        Verb::Move(moved) => {
            host = moved.host;
            ("move", Operation::Move, Named { name: moved.name })
        }
    };
    let name = instance.name;
    let request = OperateInstanceRequest {
        name: name.clone(),
        operation: operation.into(),
        host,
    };
    let mut client = arguments.controller.connect().await?;
    let done = client
        .operate_instance(request)
        .await
        .map_err(Failure::refused(format!("{word} {name}")))?
        .into_inner();
    if !done.name.is_empty() {
        println!("{}", done.name);
    }
    Ok(())
}
