//! `lbctl subnet`: the networks of projects.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lb_proto::{controller::v1, settings::map_to_struct};

use super::Context;
use crate::{
    connect::{AtController, Controller},
    failure::Failure,
    output::subnet::{Subnet, Subnets},
    values::setting::{self, Setting},
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
    /// Add a subnet to a project
    Add(Add),
    /// Change settings of a subnet; the others stay as they are
    Set(Set),
    /// Show subnets
    List {
        /// Name or id of a project; without it those of all
        project: Option<String>,
    },
    /// Show one subnet, with its bridge and the addresses that are given
    Show(Named),
    /// Delete a subnet that no load balancer is in
    Del {
        #[command(flatten)]
        named: Named,
        /// Delete the load balancers that are in it, too
        #[arg(long)]
        everything: bool,
    },
}

/// A subnet of a project.
#[derive(Args, Debug)]
struct Named {
    /// Name or id of the project
    project: String,
    /// Name or id of the subnet
    subnet: String,
}

#[derive(Args, Debug)]
struct Add {
    /// Name or id of the project
    project: String,
    /// Name of the subnet: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    subnet: String,
    /// File with settings, in TOML; docs/reference/projects.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: cidr=10.0.0.0/24 vxlan.id=7
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

#[derive(Args, Debug)]
struct Set {
    #[command(flatten)]
    named: Named,
    /// File with settings, in TOML
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings; without a value, gateway=, a setting has its default
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::List { project } => {
            let subnets = list(&mut client, project.unwrap_or_default(), String::new()).await?;
            output.print(&Subnets(subnets.iter().map(Subnet::from).collect()))
        }
        Verb::Show(Named { project, subnet }) => {
            let subnets = list(&mut client, project, subnet).await?;
            let mut subnets = subnets.iter().map(Subnet::from);
            subnets.try_for_each(|subnet| output.print(&subnet))
        }
        Verb::Add(add) => {
            let settings = setting::collect(add.file.as_ref(), add.settings)?;
            let attempt = format!("add subnet {} to project {}", add.subnet, add.project);
            let request = v1::CreateSubnetRequest {
                project: add.project,
                name: add.subnet,
                settings: Some(map_to_struct(settings)),
            };
            let subnet = client.create_subnet(request).await;
            let subnet = subnet.map_err(Failure::refused(attempt))?;
            output.print(&Subnet::from(subnet.get_ref()))
        }
        Verb::Set(set) => {
            let patch = setting::collect(set.file.as_ref(), set.settings)?;
            let Named { project, subnet } = set.named;
            let attempt = format!("change subnet {subnet} of project {project}");
            let request = v1::UpdateSubnetRequest {
                project,
                subnet,
                patch: Some(map_to_struct(setting::some(patch)?)),
            };
            let subnet = client.update_subnet(request).await;
            let subnet = subnet.map_err(Failure::refused(attempt))?;
            output.print(&Subnet::from(subnet.get_ref()))
        }
        Verb::Del {
            named: Named { project, subnet },
            everything,
        } => {
            let attempt = format!("delete subnet {subnet} of project {project}");
            let request = v1::DeleteSubnetRequest {
                project,
                subnet,
                everything,
            };
            let deleted = client.delete_subnet(request).await;
            deleted.map(drop).map_err(Failure::refused(attempt))
        }
    }
}

async fn list(
    client: &mut Controller,
    project: String,
    subnet: String,
) -> Result<Vec<v1::Subnet>, Failure> {
    let request = v1::ListSubnetsRequest { project, subnet };
    let answer = client.list_subnets(request).await;
    let answer = answer.map_err(Failure::refused("list subnets"))?;
    Ok(answer.into_inner().subnets)
}
