//! `lbctl command`: the queue of the controller.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use lb_proto::controller::v1;

use super::Context;
use crate::{
    connect::{AtController, Controller},
    failure::Failure,
    output::command::{Change, Command, Commands, Tree},
};

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
    /// Show commands, the newest last
    List {
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
        /// Only those about this object, such as environment/3
        #[arg(long, value_name = "OBJECT", default_value = "")]
        object: String,
        /// The newest so many
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        most: u32,
    },
    /// Show a command with all that it has waited for, and what happened
    Show {
        /// Number of the command
        command: u64,
    },
    /// Cancel a command and all that it waits for; what it did is undone
    Cancel {
        /// Number of the command
        command: u64,
        /// Why, for its log
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Try a command again: at once if it waits for that, as a new one if it has failed or was cancelled
    Retry {
        /// Number of the command
        command: u64,
    },
    /// Show commands that have not ended, then each change as it happens
    Watch {
        /// Number of a command: only this one and what it waits for, until it has ended
        command: Option<u64>,
    },
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::List { open, object, most } => {
            let request = v1::ListCommandsRequest {
                open,
                object,
                most,
                ..v1::ListCommandsRequest::default()
            };
            let list = list(&mut client, request).await?;
            output.print(&Commands(list.iter().map(Command::from).collect()))
        }
        Verb::Show { command } => {
            let tree = tree(&mut client, command).await?;
            output.print(&tree)
        }
        Verb::Cancel { command, why } => {
            let request = v1::CancelCommandRequest { command, why };
            let cancelled = client.cancel_command(request).await;
            let cancelled =
                cancelled.map_err(Failure::refused(format!("cancel command {command}")))?;
            output.print(&Commands(vec![Command::from(cancelled.get_ref())]))
        }
        Verb::Retry { command } => {
            let again = client
                .retry_command(v1::RetryCommandRequest { command })
                .await;
            let again = again.map_err(Failure::refused(format!("try command {command} again")))?;
            output.print(&Commands(vec![Command::from(again.get_ref())]))
        }
        Verb::Watch { command } => {
            let request = v1::WatchCommandsRequest {
                command: command.unwrap_or_default(),
                since_revision: 0,
            };
            let attempt = "watch commands";
            let stream = client.watch_commands(request).await;
            let mut stream = stream.map_err(Failure::refused(attempt))?.into_inner();
            // What was shown of each last.
            let mut shown = BTreeMap::new();
            let mut is_known = false;
            let mut last = None;
            while let Some(message) = stream.message().await.map_err(Failure::refused(attempt))? {
                is_known |= message.snapshot_end;
                if let Some(one) = &message.command {
                    let now = (one.state.clone(), one.why.clone());
                    if Some(one.id) == command {
                        last = Some(one.state.clone());
                    }
                    if shown.insert(one.id, now.clone()) != Some(now) {
                        output.print(&Change(Command::from(one)))?;
                    }
                }
                if is_known && last.as_deref().is_some_and(has_ended) {
                    return Ok(());
                }
            }
            Ok(())
        }
    }
}

/// Whether nothing happens to a command in this state any more.
pub(super) fn has_ended(state: &str) -> bool {
    matches!(state, "done" | "failed" | "cancelled")
}

async fn list(
    client: &mut Controller,
    request: v1::ListCommandsRequest,
) -> Result<Vec<v1::Command>, Failure> {
    let answer = client.list_commands(request).await;
    let answer = answer.map_err(Failure::refused("list commands"))?;
    Ok(answer.into_inner().commands)
}

/// A command with all that it has waited for.
pub(super) async fn tree(client: &mut Controller, command: u64) -> Result<Tree, Failure> {
    let request = v1::ListCommandsRequest {
        command,
        ..v1::ListCommandsRequest::default()
    };
    let answer = client.list_commands(request).await;
    let answer = answer.map_err(Failure::refused(format!("show command {command}")))?;
    let commands = answer.get_ref().commands.iter();
    Ok(Tree(commands.map(Command::from).collect()))
}
