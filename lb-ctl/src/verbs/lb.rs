//! `lbctl lb`: the load balancers of projects.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use lb_model::project::HostName;
use lb_proto::{controller::v1, settings::map_to_struct};
use serde_json::{Value, json};

use super::Context;
use crate::{
    connect::{AtController, Controller},
    failure::Failure,
    output::project::{Balancer, Balancers},
    values::setting::{self, Setting},
};

/// How often it is looked whether a load balancer serves.
const LOOK: Duration = Duration::from_millis(100);

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
    /// Add a load balancer to a project, and print where clients reach it
    Add(Add),
    /// Change settings of a load balancer; the others stay as they are
    Set(Set),
    /// Show load balancers
    List {
        /// Name or id of a project; without it those of all
        project: Option<String>,
    },
    /// Show one load balancer, with its nodes and what is missing
    Show(Named),
    /// Delete a load balancer
    Del(Named),
}

/// A load balancer of a project.
#[derive(Args, Debug)]
struct Named {
    /// Name or id of the project
    project: String,
    /// Name or id of the load balancer
    balancer: String,
}

#[derive(Args, Debug)]
struct Add {
    /// Name or id of the project
    project: String,
    /// Name of the load balancer: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    balancer: String,
    /// A server behind it, by address or name; may be repeated
    #[arg(long = "backend", value_name = "HOST[:PORT]", value_parser = backend)]
    backends: Vec<Value>,
    /// Return when it serves, or after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    /// File with settings, in TOML; docs/reference/projects.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: port=8080 check.kind=http nodes=2
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

#[derive(Args, Debug)]
struct Set {
    /// Name or id of the project
    project: String,
    /// Name or id of the load balancer
    balancer: String,
    /// A server behind it, by address or name; may be repeated, and replaces those of before
    #[arg(long = "backend", value_name = "HOST[:PORT]", value_parser = backend)]
    backends: Vec<Value>,
    /// File with settings, in TOML
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings; without a value, check=, a setting has its default
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

/// Reads `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn backend(text: &str) -> Result<Value, String> {
    let (host, port) = HostName::split_port(text);
    let host: HostName = host.parse()?;
    match port {
        Some(0) => Err("give HOST or HOST:PORT".to_owned()),
        Some(port) => Ok(json!({ "address": host.to_string(), "port": port })),
        None => Ok(json!({ "address": host.to_string() })),
    }
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::Add(add) => {
            let balancer = add.run(client).await?;
            output.print(&balancer)
        }
        Verb::Set(set) => {
            let mut patch = setting::collect(set.file.as_ref(), set.settings)?;
            // What was behind it before is not any more.
            if !set.backends.is_empty() {
                patch.entry("pool").or_insert(Value::Null);
                patch.insert("backends".to_owned(), set.backends.into());
            } else if patch.contains_key("pool") {
                patch.entry("backends").or_insert(Value::Null);
            }
            let attempt = format!(
                "change load balancer {} of project {}",
                set.balancer, set.project
            );
            let request = v1::UpdateBalancerRequest {
                project: set.project,
                balancer: set.balancer,
                patch: Some(map_to_struct(setting::some(patch)?)),
            };
            let balancer = client.update_balancer(request).await;
            let balancer = balancer.map_err(Failure::refused(attempt))?;
            output.print(&Balancer::from(balancer.get_ref()))
        }
        Verb::List { project } => {
            let balancers = list(&mut client, project.unwrap_or_default(), String::new()).await?;
            output.print(&Balancers(balancers.iter().map(Balancer::from).collect()))
        }
        Verb::Show(Named { project, balancer }) => {
            let balancers = list(&mut client, project, balancer).await?;
            let mut balancers = balancers.iter().map(Balancer::from);
            balancers.try_for_each(|balancer| output.print(&balancer))
        }
        Verb::Del(Named { project, balancer }) => {
            let attempt = format!("delete load balancer {balancer} of project {project}");
            let request = v1::DeleteBalancerRequest { project, balancer };
            let deleted = client.delete_balancer(request).await;
            deleted.map(drop).map_err(Failure::refused(attempt))
        }
    }
}

async fn list(
    client: &mut Controller,
    project: String,
    balancer: String,
) -> Result<Vec<v1::Balancer>, Failure> {
    let request = v1::ListBalancersRequest { project, balancer };
    let answer = client.list_balancers(request).await;
    let answer = answer.map_err(Failure::refused("list load balancers"))?;
    Ok(answer.into_inner().balancers)
}

impl Add {
    async fn run(self, mut client: Controller) -> Result<Balancer, Failure> {
        let mut settings = setting::collect(self.file.as_ref(), self.settings)?;
        if !self.backends.is_empty() {
            settings.insert("backends".to_owned(), self.backends.into());
        }
        let request = v1::CreateBalancerRequest {
            project: self.project.clone(),
            name: self.balancer.clone(),
            settings: Some(map_to_struct(settings)),
        };
        let attempt = format!(
            "add load balancer {} to project {}",
            self.balancer, self.project
        );
        let created = client.create_balancer(request).await;
        let mut balancer = created.map_err(Failure::refused(attempt))?.into_inner();
        let end = std::time::Instant::now() + Duration::from_secs(self.wait);
        while balancer.url.is_empty() && std::time::Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            let id = balancer.id.to_string();
            let listed = list(&mut client, self.project.clone(), id).await?;
            balancer = listed.into_iter().next().unwrap_or(balancer);
        }
        let shown = Balancer::from(&balancer);
        if self.wait > 0 && balancer.url.is_empty() {
            let why = balancer.conditions.iter().find(|one| one.kind == "serving");
            let why = why.map_or("it has not begun", |one| one.why.as_str());
            return Err(Failure::NotYet(format!(
                "{} was added and does not serve yet: {why}; `lbctl lb show {} {}` shows how far it is",
                self.balancer, self.project, self.balancer
            )));
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_hosts_with_or_without_a_port() {
        for (text, read) in [
            ("10.0.0.1", json!({ "address": "10.0.0.1" })),
            ("10.0.0.1:81", json!({ "address": "10.0.0.1", "port": 81 })),
            ("2001:db8::1", json!({ "address": "2001:db8::1" })),
            (
                "[2001:db8::1]:81",
                json!({ "address": "2001:db8::1", "port": 81 }),
            ),
            (
                "Web.example:81",
                json!({ "address": "web.example", "port": 81 }),
            ),
        ] {
            assert_eq!(backend(text), Ok(read), "{text}");
        }
        for bad in [
            "",
            "10.0.0.256",
            "10.0.0.1:0",
            "10.0.0.1:99999",
            "a b",
            ":80",
        ] {
            assert!(backend(bad).is_err(), "{bad}");
        }
    }
}
