//! `lbctl token`: tokens of a controller.

use std::time::Duration;

use clap::{Args, Subcommand};
use lb_proto::controller::v1;

use super::Context;
use crate::{
    connect::AtController,
    failure::Failure,
    output::{
        Done,
        access::{NewToken, Tokens},
    },
    values::duration,
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
    /// Make a token, and print it: it is shown once
    Add {
        /// Name or id of the project; without it the token is for the whole controller
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// What it allows: read, operate or admin
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// How long it counts; without it until it is removed
        #[arg(long, value_name = "DURATION", value_parser = duration::read)]
        life: Option<Duration>,
    },
    /// Show tokens, without their texts
    List {
        /// Name or id of a project; without it all
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// Remove a token: it does not count any more
    Remove {
        /// Id of the token, as the list shows it
        token: String,
    },
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.access().await?;
    match arguments.verb {
        Verb::Add {
            project,
            role,
            description,
            life,
        } => {
            let life = life
                .map(prost_types::Duration::try_from)
                .transpose()
                .map_err(|_| Failure::Usage("--life is too long".to_owned()))?;
            let request = v1::AddTokenRequest {
                project: project.unwrap_or_default(),
                role,
                description,
                life,
            };
            let answer = client.add_token(request).await;
            let answer = answer.map_err(Failure::refused("make a token"))?;
            if output.is_human() {
                eprintln!("lbctl: keep this token: it is not shown again");
            }
            output.print(&NewToken::new(answer.get_ref()))
        }
        Verb::List { project } => {
            let request = v1::ListTokensRequest {
                project: project.unwrap_or_default(),
            };
            let answer = client.list_tokens(request).await;
            let answer = answer.map_err(Failure::refused("list tokens"))?;
            let tokens = answer.get_ref().tokens.iter().map(Into::into);
            output.print(&Tokens(tokens.collect()))
        }
        Verb::Remove { token } => {
            let attempt = format!("remove token {token}");
            let request = v1::RemoveTokenRequest {
                token: token.clone(),
            };
            let removed = client.remove_token(request).await;
            removed.map_err(Failure::refused(attempt))?;
            output.print(&Done {
                deleted: format!("token {token}"),
            })
        }
    }
}
