//! `lbctl user`: users of a controller.

use std::{
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use lb_proto::controller::v1;

use super::Context;
use crate::{
    connect::AtController,
    failure::Failure,
    output::{
        Done,
        access::{User, Users},
    },
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
    /// Add a user
    Add {
        /// Name of the user: 1 to 64 of A-Z, a-z, 0-9, ., _, @, + and -. A certificate of this name is the user, too
        name: String,
        /// A role: read, operate or admin for the whole controller, or PROJECT:ROLE; give it again for more
        #[arg(long = "role", value_name = "[PROJECT:]ROLE", required = true)]
        roles: Vec<String>,
        /// The user has no password, and needs a certificate
        #[arg(long, conflicts_with = "password_file")]
        no_password: bool,
        /// File whose first line is the password [default: standard input]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Show users
    List,
    /// Remove a user
    Remove {
        /// Name of the user
        name: String,
    },
    /// Give a user another password
    Password {
        /// Name of the user
        name: String,
        /// File whose first line is the password [default: standard input]
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

/// Reads a password: the first line of a file, or of standard input.
fn password(file: Option<&PathBuf>) -> Result<String, Failure> {
    let failed = |attempt: String| move |error| Failure::File { attempt, error };
    let mut line = String::new();
    match file {
        Some(path) => {
            let attempt = format!("read the password in {}", path.display());
            let text = std::fs::read_to_string(path).map_err(failed(attempt))?;
            line.push_str(text.lines().next().unwrap_or_default());
        }
        None => {
            let failed = failed("read the password from standard input".to_owned());
            let input = std::io::stdin();
            if input.is_terminal() {
                line = rpassword::prompt_password("Password: ").map_err(failed)?;
            } else {
                input.lock().read_line(&mut line).map_err(failed)?;
            }
        }
    }
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        return Err(Failure::Usage(
            "there is no password; write it to standard input, or give --password-file".to_owned(),
        ));
    }
    Ok(line.to_owned())
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.access().await?;
    match arguments.verb {
        Verb::Add {
            name,
            roles,
            no_password,
            password_file,
        } => {
            let password = if no_password {
                String::new()
            } else {
                password(password_file.as_ref())?
            };
            let attempt = format!("add user {name}");
            let request = v1::AddUserRequest {
                user: name,
                password,
                roles,
            };
            let user = client.add_user(request).await;
            let user = user.map_err(Failure::refused(attempt))?;
            output.print(&User::from(user.get_ref()))
        }
        Verb::List => {
            let answer = client.list_users(v1::ListUsersRequest {}).await;
            let answer = answer.map_err(Failure::refused("list users"))?;
            let users = answer.get_ref().users.iter().map(User::from);
            output.print(&Users(users.collect()))
        }
        Verb::Remove { name } => {
            let attempt = format!("remove user {name}");
            let request = v1::RemoveUserRequest { user: name.clone() };
            let removed = client.remove_user(request).await;
            removed.map_err(Failure::refused(attempt))?;
            output.print(&Done {
                deleted: format!("user {name}"),
            })
        }
        Verb::Password {
            name,
            password_file,
        } => {
            let password = password(password_file.as_ref())?;
            let attempt = format!("set the password of user {name}");
            let request = v1::SetPasswordRequest {
                user: name,
                password,
            };
            let user = client.set_password(request).await;
            let user = user.map_err(Failure::refused(attempt))?;
            output.print(&User::from(user.get_ref()))
        }
    }
}
