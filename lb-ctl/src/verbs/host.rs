//! `lbctl host`.

use std::time::Duration;

use clap::{Args, Subcommand};
use lb_proto::controller::v1;

use super::Context;
use crate::{
    connect::AtController,
    failure::Failure,
    output::host::{Host, Hosts, Token},
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
    /// Show hosts
    List,
    /// Show a host
    Show {
        /// Name of the host
        host: String,
    },
    /// Make a token by which a machine becomes a host, once: lb-agent host --join TOKEN --controller ADDRESS
    Token {
        /// The host that it is for; another machine can take its place. Without it any that is no host yet
        #[arg(long)]
        name: Option<String>,
        /// How long it lasts, 1s to 30d
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::read)]
        lifetime: Duration,
    },
    /// Give a host no further instances
    Cordon {
        /// Name of the host
        host: String,
    },
    /// Give a cordoned or draining host instances again
    Uncordon {
        /// Name of the host
        host: String,
    },
    /// Have the instances of a host replaced on others, within the budgets of their pools
    Drain {
        /// Name of the host
        host: String,
    },
    /// Remove a host that has no instances; it has to join again then
    Remove {
        /// Name of the host
        host: String,
        /// Also if it has some: it is not connected, and never will be. They are replaced elsewhere
        #[arg(long)]
        force: bool,
    },
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    let (name, duty) = match arguments.verb {
        Verb::List => {
            let answer = client.list_hosts(v1::ListHostsRequest::default()).await;
            let answer = answer.map_err(Failure::refused("list hosts"))?;
            let hosts = answer.get_ref().hosts.iter().map(Host::from);
            return output.print(&Hosts(hosts.collect()));
        }
        Verb::Show { host } => {
            let attempt = format!("show host {host}");
            let answer = client.list_hosts(v1::ListHostsRequest { name: host }).await;
            let answer = answer.map_err(Failure::refused(attempt))?.into_inner();
            return match answer.hosts.first() {
                Some(host) => output.print(&Host::from(host)),
                None => Ok(()),
            };
        }
        Verb::Token { name, lifetime } => {
            let request = v1::CreateHostTokenRequest {
                name: name.unwrap_or_default(),
                lifetime: Some(duration::to_proto(lifetime)),
            };
            let answer = client.create_host_token(request).await;
            let answer = answer
                .map_err(Failure::refused("make a token"))?
                .into_inner();
            return output.print(&Token {
                token: answer.token,
                listen: answer.listen,
            });
        }
        Verb::Remove { host, force } => {
            let attempt = format!("remove host {host}");
            let request = v1::RemoveHostRequest { name: host, force };
            let removed = client.remove_host(request).await;
            return removed.map(drop).map_err(Failure::refused(attempt));
        }
        Verb::Cordon { host } => (host, "cordoned"),
        Verb::Uncordon { host } => (host, "up"),
        Verb::Drain { host } => (host, "draining"),
    };
    let attempt = format!("change host {name}");
    let request = v1::UpdateHostRequest {
        name,
        duty: duty.to_owned(),
    };
    let host = client.update_host(request).await;
    let host = host.map_err(Failure::refused(attempt))?;
    output.print(&Host::from(host.get_ref()))
}
