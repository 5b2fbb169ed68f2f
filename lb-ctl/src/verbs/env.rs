//! `lbctl env`: environments, which are groups of pools and load balancers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use lb_model::settings::{Map, Value};
use lb_proto::{controller::v1, settings::map_to_struct};

use super::{
    Context,
    command::{has_ended, tree},
};
use crate::{
    connect::{AtController, Controller},
    failure::Failure,
    output::{
        Output,
        environment::{Environment, Environments, Ordered},
    },
    values::setting::{self, Setting},
};

/// How often it is looked whether a command has ended.
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
    /// Create an empty environment in a project
    Create(Change),
    /// Change settings of an environment; the others stay as they are
    Set(Change),
    /// Show environments
    List {
        /// Name or id of a project; without it those of all
        project: Option<String>,
    },
    /// Show one environment, with its members
    Show(Named),
    /// Add a member: a pool or a load balancer. Handlers may keep it out, or bring others with it
    Add(Add),
    /// Remove a member, with its pool or load balancer
    Remove {
        #[command(flatten)]
        named: Named,
        /// Name of the member
        member: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Start all members: those of lower priority first
    Start(Whole),
    /// Stop all members: those of lower priority last. They have no instances then
    Stop(Whole),
    /// Suspend all members: their memory and connections stay
    Suspend(Whole),
    /// Let all members go on
    Resume(Whole),
    /// Create another environment with the same members
    Clone {
        #[command(flatten)]
        named: Named,
        /// Name of the clone
        name: String,
        /// Other settings of the clone's members: MEMBER.network.port=9000
        #[arg(value_name = "MEMBER.SETTING=VALUE", value_parser = setting::read)]
        settings: Vec<Setting>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Destroy an environment with all its members
    Destroy(Whole),
}

/// An environment of a project.
#[derive(Args, Debug)]
struct Named {
    /// Name or id of the project
    project: String,
    /// Name or id of the environment
    environment: String,
}

#[derive(Args, Debug)]
struct Wait {
    /// Return when the command has ended, which fails if it does, or after this many seconds
    #[arg(long = "wait", value_name = "SECONDS", default_value_t = 0)]
    seconds: u64,
}

#[derive(Args, Debug)]
struct Whole {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args, Debug)]
struct Change {
    /// Name or id of the project
    project: String,
    /// Name of the environment: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    environment: String,
    /// File with settings, in TOML; docs/reference/environments.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: down_after=1m; without a value, a setting has its default
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

#[derive(Args, Debug)]
struct Add {
    #[command(flatten)]
    named: Named,
    /// Name of the member: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    member: String,
    /// File with settings, in TOML; docs/reference/environments.md describes them
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: role=web pool.driver.kind=process pool.network.port=8000
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
    #[command(flatten)]
    wait: Wait,
}

/// Does it.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let mut client = arguments.controller.connect().await?;
    match arguments.verb {
        Verb::Create(create) => {
            let settings = setting::collect(create.file.as_ref(), create.settings)?;
            let attempt = format!("create environment {}", create.environment);
            let request = v1::CreateEnvironmentRequest {
                project: create.project,
                name: create.environment,
                settings: Some(map_to_struct(settings)),
                request: String::new(),
            };
            let created = client.create_environment(request).await;
            let created = created.map_err(Failure::refused(attempt))?;
            output.print(&Ordered::from(created.get_ref()))
        }
        Verb::Set(set) => {
            let patch = setting::collect(set.file.as_ref(), set.settings)?;
            let attempt = format!("change environment {}", set.environment);
            let request = v1::UpdateEnvironmentRequest {
                project: set.project,
                environment: set.environment,
                patch: Some(map_to_struct(setting::some(patch)?)),
            };
            let updated = client.update_environment(request).await;
            let updated = updated.map_err(Failure::refused(attempt))?;
            output.print(&Ordered::from(updated.get_ref()))
        }
        Verb::List { project } => {
            let list = list(&mut client, project.unwrap_or_default(), String::new()).await?;
            output.print(&Environments(list.iter().map(Environment::from).collect()))
        }
        Verb::Show(Named {
            project,
            environment,
        }) => {
            let list = list(&mut client, project, environment).await?;
            let mut shown = list.iter().map(Environment::from);
            shown.try_for_each(|one| output.print(&one))
        }
        Verb::Add(add) => {
            let settings = setting::collect(add.file.as_ref(), add.settings)?;
            let attempt = format!("add {} to {}", add.member, add.named.environment);
            let request = v1::AddMemberRequest {
                project: add.named.project,
                environment: add.named.environment,
                name: add.member,
                settings: Some(map_to_struct(settings)),
                request: String::new(),
            };
            let added = client.add_member(request).await;
            let added = added.map_err(Failure::refused(attempt))?.into_inner();
            add.wait.follow(&mut client, added, output).await
        }
        Verb::Remove {
            named,
            member,
            wait,
        } => {
            let attempt = format!("remove {member} from {}", named.environment);
            let request = v1::RemoveMemberRequest {
                project: named.project,
                environment: named.environment,
                member,
            };
            let removed = client.remove_member(request).await;
            let removed = removed.map_err(Failure::refused(attempt))?.into_inner();
            wait.follow(&mut client, removed, output).await
        }
        Verb::Start(whole) => whole.order(client, "start", output).await,
        Verb::Stop(whole) => whole.order(client, "stop", output).await,
        Verb::Suspend(whole) => whole.order(client, "suspend", output).await,
        Verb::Resume(whole) => whole.order(client, "resume", output).await,
        Verb::Destroy(whole) => whole.order(client, "destroy", output).await,
        Verb::Clone {
            named,
            name,
            settings,
            wait,
        } => {
            let settings: Map<String, Value> = setting::collect(None, settings)?;
            let attempt = format!("clone {} to {name}", named.environment);
            let request = v1::CloneEnvironmentRequest {
                project: named.project,
                environment: named.environment,
                name,
                settings: Some(map_to_struct(settings)),
            };
            let cloned = client.clone_environment(request).await;
            let cloned = cloned.map_err(Failure::refused(attempt))?.into_inner();
            wait.follow(&mut client, cloned, output).await
        }
    }
}

async fn list(
    client: &mut Controller,
    project: String,
    environment: String,
) -> Result<Vec<v1::Environment>, Failure> {
    let request = v1::ListEnvironmentsRequest {
        project,
        environment,
    };
    let answer = client.list_environments(request).await;
    let answer = answer.map_err(Failure::refused("list environments"))?;
    Ok(answer.into_inner().environments)
}

impl Whole {
    async fn order(
        self,
        mut client: Controller,
        verb: &str,
        output: Output,
    ) -> Result<(), Failure> {
        let attempt = format!("{verb} environment {}", self.named.environment);
        let request = v1::OrderEnvironmentRequest {
            project: self.named.project,
            environment: self.named.environment,
            verb: verb.to_owned(),
        };
        let ordered = client.order_environment(request).await;
        let ordered = ordered.map_err(Failure::refused(attempt))?.into_inner();
        self.wait.follow(&mut client, ordered, output).await
    }
}

impl Wait {
    /// Prints the order, or waits for its end and prints its tree.
    async fn follow(
        &self,
        client: &mut Controller,
        ordered: v1::Ordered,
        output: Output,
    ) -> Result<(), Failure> {
        if self.seconds == 0 {
            return output.print(&Ordered::from(&ordered));
        }
        let end = std::time::Instant::now() + Duration::from_secs(self.seconds);
        loop {
            let tree = tree(client, ordered.command).await?;
            let (state, why) = tree.root();
            if has_ended(state) {
                let failed = (state != "done").then(|| {
                    Failure::NotYet(format!(
                        "command {} has {}: {why}; `lbctl command show {}` shows it",
                        ordered.command,
                        if state == "failed" {
                            "failed"
                        } else {
                            "been cancelled"
                        },
                        ordered.command
                    ))
                });
                output.print(&tree)?;
                return failed.map_or(Ok(()), Err);
            }
            if std::time::Instant::now() > end {
                return Err(Failure::NotYet(format!(
                    "command {} has not ended yet; `lbctl command show {}` shows how far it is",
                    ordered.command, ordered.command
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
