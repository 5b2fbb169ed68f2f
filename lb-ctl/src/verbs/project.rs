//! `lbctl project`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lb_proto::{controller::v1, settings::map_to_struct};

use super::Context;
use crate::{
    connect::AtController,
    failure::Failure,
    output::project::{Project, Projects},
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
    /// Add a project
    Add(Change),
    /// Change settings of a project; the others stay as they are
    Set(Change),
    /// Show projects
    List {
        /// Name or id of a project; without it all
        project: Option<String>,
    },
    /// Delete a project with nothing in it
    Del {
        /// Name or id of the project
        project: String,
        /// Delete its load balancers and subnets, too
        #[arg(long)]
        everything: bool,
    },
}

/// A project with settings.
#[derive(Args, Debug)]
struct Change {
    /// Name of the project: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    project: String,
    /// File with settings, in TOML; docs/reference/projects.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: quota.nodes=40; without a value, a setting has its default
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::Add(add) => {
            let settings = setting::collect(add.file.as_ref(), add.settings)?;
            let attempt = format!("add project {}", add.project);
            let request = v1::CreateProjectRequest {
                name: add.project,
                settings: Some(map_to_struct(settings)),
            };
            let project = client.create_project(request).await;
            let project = project.map_err(Failure::refused(attempt))?;
            output.print(&Project::from(project.get_ref()))
        }
        Verb::Set(set) => {
            let patch = setting::collect(set.file.as_ref(), set.settings)?;
            let attempt = format!("change project {}", set.project);
            let request = v1::UpdateProjectRequest {
                project: set.project,
                patch: Some(map_to_struct(setting::some(patch)?)),
            };
            let project = client.update_project(request).await;
            let project = project.map_err(Failure::refused(attempt))?;
            output.print(&Project::from(project.get_ref()))
        }
        Verb::List { project } => {
            let request = v1::ListProjectsRequest {
                project: project.unwrap_or_default(),
            };
            let answer = client.list_projects(request).await;
            let answer = answer.map_err(Failure::refused("list projects"))?;
            let projects = answer.get_ref().projects.iter().map(Project::from);
            output.print(&Projects(projects.collect()))
        }
        Verb::Del {
            project,
            everything,
        } => {
            let attempt = format!("delete project {project}");
            let request = v1::DeleteProjectRequest {
                project,
                everything,
            };
            let deleted = client.delete_project(request).await;
            deleted.map(drop).map_err(Failure::refused(attempt))
        }
    }
}
