//! Commands about pools and load balancers, done with what is there. Each can be done again: what is as it should be is left alone.
//!
//! A run waits for what it has ordered, but not for long: then it says what is missing, and is run again.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use lb_commands::{
    command::Command,
    environment::{
        Environment, Member, MemberKind, Power,
        verbs::{
            BIND, CALL, CREATE_BALANCER, CREATE_POOL, DELETE_BALANCER, DELETE_POOL, MEMBER, OTHER,
            UNBIND,
        },
    },
    queue::Outcome,
};
use lb_model::{
    environment::pool_of_member,
    pool::{PoolName, PoolSpec},
    project::{ObjectName, pool_of_nodes},
    settings::{Map, Settings as _, Value},
};
use serde_json::json;

use super::handlers;
use crate::{
    KINDS,
    controller::{Controller, Refused},
    pool::PoolOwner,
    projects::{BalancerView, COMPLETE, OrderError, Projects, SERVING},
    queue::Execute,
    registry::{Key, Update},
    worker::PoolView,
};

/// How long a run waits for what it has ordered.
const RUN: Duration = Duration::from_secs(10);
/// How often it looks whether a load balancer is as it should be.
const LOOK: Duration = Duration::from_millis(50);
/// The label of a load balancer with the environment and the member that it is.
pub(super) const LABEL: &str = "lb-environment-member";

/// Settings of load balancers.
const TAKES_OVER: &str = "takes_over";
const PLACEMENT: &str = "placement";

/// Does what commands say.
#[derive(Debug)]
pub struct Executor {
    controller: Controller,
    projects: Projects,
    allow_exec: bool,
}

impl Executor {
    /// Does it with these pools and load balancers.
    #[must_use]
    pub fn new(controller: Controller, projects: Projects, allow_exec: bool) -> Arc<Self> {
        Arc::new(Executor {
            controller,
            projects,
            allow_exec,
        })
    }
}

impl Execute for Executor {
    fn execute(
        &self,
        command: Command,
        environment: Option<Environment>,
    ) -> BoxFuture<'static, Outcome> {
        let Some(environment) = environment else {
            return Box::pin(async { Outcome::Refused("the environment is gone".to_owned()) });
        };
        let id = u32::try_from(command.number(MEMBER)).unwrap_or_default();
        let Some(member) = environment.member(id).cloned() else {
            // What undoes a command may come after its member has gone.
            return Box::pin(async move {
                if command.is_undo {
                    Outcome::Done(Value::Null)
                } else {
                    Outcome::Refused("the member is gone".to_owned())
                }
            });
        };
        if command.verb == CALL {
            let call = handlers::call(command, environment, member, self.allow_exec);
            return Box::pin(call);
        }
        let run = Run {
            controller: self.controller.clone(),
            projects: self.projects.clone(),
            environment,
            member,
        };
        Box::pin(run.run(command))
    }
}

/// A run of a command about a member.
struct Run {
    controller: Controller,
    projects: Projects,
    environment: Environment,
    member: Member,
}

/// A run that goes no further: because it has failed, was refused, or has to wait.
type Stop = Outcome;

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        Stopped(match refused {
            Refused::Invalid(_) | Refused::CannotPause(..) | Refused::OfFile(_) => {
                Outcome::Refused(text)
            }
            _ => Outcome::Failed(text),
        })
    }
}

impl From<OrderError> for Stopped {
    fn from(error: OrderError) -> Self {
        let text = error.to_string();
        Stopped(match error {
            OrderError::Refused(crate::registry::Refusal::Deleting(_)) | OrderError::Store(_) => {
                Outcome::Failed(text)
            }
            OrderError::Refused(_) => Outcome::Refused(text),
        })
    }
}

/// Why a run goes no further.
struct Stopped(Stop);

impl Stopped {
    fn refused(why: impl Into<String>) -> Self {
        Stopped(Outcome::Refused(why.into()))
    }
}

type Step<T = ()> = Result<T, Stopped>;

/// The name of the load balancer that a member is.
pub(super) fn balancer_name(
    environment: &Environment,
    member: &Member,
) -> Result<ObjectName, String> {
    let name = format!("{}-{}", environment.name, member.name);
    // One that is too long has a short one.
    let short = || format!("env-{}-{}", environment.id, member.id).parse();
    name.parse().or_else(|_: String| short())
}

/// What the label says of a load balancer that is a member.
pub(super) fn label_of(environment: &Environment, member: &Member) -> String {
    format!("{}-{}", environment.id, member.id)
}

/// The load balancer that a member is, if there is one.
pub(super) fn balancer_of(
    projects: &Projects,
    environment: &Environment,
    member: &Member,
) -> Option<BalancerView> {
    let name = balancer_name(environment, member).ok()?;
    let view = projects.balancer(&Key::Id(environment.project), &Key::Name(name));
    let view = view.ok()?;
    let label = view.record.spec.get("labels")?.get(LABEL)?.as_str();
    (label == Some(label_of(environment, member).as_str())).then_some(view)
}

/// The addresses of the instances of these members that serve, as backends.
pub(super) fn backends(
    controller: &Controller,
    environment: &Environment,
    members: &[u32],
) -> Vec<Value> {
    let mut endpoints = BTreeSet::new();
    for member in members {
        let pool = pool_of_member(environment.id, *member);
        for view in controller.views(Some(&pool)).unwrap_or_default() {
            let instances = view.instances.iter().filter(|one| one.state.serves());
            endpoints.extend(instances.filter_map(|one| one.endpoint));
        }
    }
    let backend =
        |at: std::net::SocketAddr| json!({ "address": at.ip().to_string(), "port": at.port() });
    endpoints.into_iter().map(backend).collect()
}

/// The backends of a load balancer without what is not told here.
pub(super) fn told_backends(view: &BalancerView) -> Vec<Value> {
    let list = view.record.spec.get("backends").and_then(Value::as_array);
    let told = |one: &Value| json!({ "address": one["address"], "port": one["port"] });
    list.map(|list| list.iter().map(told).collect())
        .unwrap_or_default()
}

impl Run {
    async fn run(self, command: Command) -> Outcome {
        let verb = command.verb.as_str();
        let done = match (verb, self.member.kind) {
            (CREATE_POOL, _) => self.create_pool().await,
            (CREATE_BALANCER, _) => self.create_balancer().await,
            (DELETE_POOL, _) => self.delete_pool().await,
            (DELETE_BALANCER, _) => self.delete_balancer().await,
            (BIND | UNBIND, _) => {
                let other = u32::try_from(command.number(OTHER)).unwrap_or_default();
                self.bind(other, verb == BIND).await
            }
            ("start-pool" | "resume-pool" | "start-balancer" | "resume-balancer", _) => {
                self.power(Power::Running).await
            }
            ("suspend-pool" | "suspend-balancer", _) => self.power(Power::Suspended).await,
            ("stop-pool" | "stop-balancer", _) => self.power(Power::Stopped).await,
            _ => Err(Stopped::refused(format!("there is no command {verb}"))),
        };
        match done {
            Ok(()) => Outcome::Done(Value::Null),
            Err(Stopped(outcome)) => outcome,
        }
    }

    fn pool(&self) -> PoolName {
        pool_of_member(self.environment.id, self.member.id)
    }

    /// The pool of the instances of a member: its own, or that of its load balancer's nodes.
    fn instances(&self) -> Step<PoolName> {
        match self.member.kind {
            MemberKind::Pool => Ok(self.pool()),
            MemberKind::Balancer => Ok(pool_of_nodes(self.balancer()?.record.id)),
        }
    }

    fn balancer(&self) -> Step<BalancerView> {
        let found = balancer_of(&self.projects, &self.environment, &self.member);
        found.ok_or_else(|| Stopped::refused("there is no such load balancer"))
    }

    /// Waits until something is so, which `look` says, or what is missing.
    async fn wait(&self, mut look: impl FnMut() -> Step<Result<(), String>>) -> Step {
        let end = tokio::time::Instant::now() + RUN;
        loop {
            let Err(missing) = look()? else {
                return Ok(());
            };
            if tokio::time::Instant::now() > end {
                return Err(Stopped(Outcome::Again(Duration::ZERO, missing)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_pool(
        &self,
        pool: &PoolName,
        is_so: impl Fn(&PoolView) -> Result<(), String>,
    ) -> Step {
        self.wait(|| match self.controller.views(Some(pool)) {
            Ok(views) => Ok(views.first().map_or(Ok(()), &is_so)),
            Err(Refused::NoPool(_)) => Ok(Err("its pool is not there yet".to_owned())),
            Err(refused) => Err(refused.into()),
        })
        .await
    }

    async fn create_pool(&self) -> Step {
        let spec = PoolSpec::read(&self.member.settings, &KINDS);
        let spec = spec.map_err(|error| Stopped::refused(error.to_string()))?;
        let least = spec.scaling.min.max(1);
        let pool = self.pool();
        let make = async |spec| {
            self.controller
                .make(&pool, spec, PoolOwner::Environment)
                .await
        };
        self.projects
            .admit(self.environment.project, &pool, spec, make)
            .await??;
        let power = self.environment.power;
        self.controller.set_power(&pool, power).await?;
        if power != Power::Running {
            return Ok(());
        }
        self.wait_pool(&pool, move |view| all_serve(view, least))
            .await
    }

    async fn create_balancer(&self) -> Step {
        if balancer_of(&self.projects, &self.environment, &self.member).is_none() {
            let name = balancer_name(&self.environment, &self.member).map_err(Stopped::refused)?;
            let mut settings = self.member.settings.clone();
            let labels = settings.entry("labels").or_insert_with(|| json!({}));
            labels[LABEL] = label_of(&self.environment, &self.member).into();
            self.succeed(&mut settings);
            let project = Key::Id(self.environment.project);
            self.projects
                .create_balancer(&project, name, &settings)
                .await?;
        }
        if self.environment.power != Power::Running {
            return Ok(());
        }
        self.wait_balancer(SERVING).await
    }

    /// Has a load balancer that replaces another one serve the clients of that, on another host.
    fn succeed(&self, settings: &mut Map<String, Value>) {
        let before = self
            .member
            .replaces
            .and_then(|id| self.environment.member(id));
        let before =
            before.and_then(|before| balancer_of(&self.projects, &self.environment, before));
        let Some(before) = before else {
            return;
        };
        let names = before.record.spec.get(TAKES_OVER).and_then(Value::as_array);
        let mut names = names.cloned().unwrap_or_default();
        names.push(before.record.name.as_str().into());
        settings.insert(TAKES_OVER.to_owned(), names.into());
        let own = settings.get(PLACEMENT).and_then(Value::as_object).cloned();
        let placement = own.or_else(|| Some(self.projects.placement()?.to_map()));
        let hosts: BTreeSet<&str> = before
            .seen
            .nodes
            .iter()
            .filter_map(|node| Some(node.host.as_ref()?.as_str()))
            .collect();
        if let Some(mut placement) = placement
            && !settings.contains_key("subnet")
        {
            placement.insert("avoid".to_owned(), json!(hosts));
            settings.insert(PLACEMENT.to_owned(), placement.into());
        }
    }

    async fn wait_balancer(&self, condition: &str) -> Step {
        self.wait(|| {
            let view = self.balancer()?;
            let is_newest =
                condition != COMPLETE || view.seen.observed_generation >= view.record.generation;
            if view.seen.is(condition) && is_newest {
                return Ok(Ok(()));
            }
            let conditions = &view.seen.conditions;
            let why = conditions.iter().find(|one| one.kind == condition);
            Ok(Err(why.map_or_else(
                || "its load balancer has not begun".to_owned(),
                |one| one.why.clone(),
            )))
        })
        .await
    }

    async fn delete_pool(&self) -> Step {
        let pool = self.pool();
        self.until_gone("its instances are being removed", || {
            self.controller.unmake(&pool, PoolOwner::Environment)
        })
        .await?;
        self.projects.release(&pool);
        Ok(())
    }

    async fn until_gone<F: Future<Output = Result<bool, Refused>>>(
        &self,
        missing: &str,
        mut order: impl FnMut() -> F,
    ) -> Step {
        let end = tokio::time::Instant::now() + RUN;
        while !order().await? {
            if tokio::time::Instant::now() > end {
                return Err(Stopped(Outcome::Again(Duration::ZERO, missing.to_owned())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn delete_balancer(&self) -> Step {
        let Some(view) = balancer_of(&self.projects, &self.environment, &self.member) else {
            return Ok(());
        };
        if !view.record.is_deleted {
            let (project, id) = (Key::Id(view.record.project), Key::Id(view.record.id));
            self.projects.delete_balancer(&project, &id).await?;
        }
        self.wait(|| {
            let is_there = balancer_of(&self.projects, &self.environment, &self.member).is_some();
            Ok(if is_there {
                Err("its nodes are being removed".to_owned())
            } else {
                Ok(())
            })
        })
        .await
    }

    async fn bind(&self, other: u32, is_bound: bool) -> Step {
        let mut members: Vec<u32> = self.member.bound.clone();
        members.retain(|one| *one != other);
        if is_bound {
            members.push(other);
        }
        let view = match self.balancer() {
            Ok(view) => view,
            // One that is gone has nobody to forget.
            Err(_) if !is_bound => return Ok(()),
            Err(stopped) => return Err(stopped),
        };
        let wanted = backends(&self.controller, &self.environment, &members);
        if told_backends(&view) != wanted {
            tell(&self.projects, &view, wanted).await?;
        }
        if !is_bound || self.environment.power != Power::Running {
            return Ok(());
        }
        self.wait_balancer(COMPLETE).await
    }

    async fn power(&self, power: Power) -> Step {
        let pool = self.instances()?;
        match self.controller.set_power(&pool, power).await {
            // Nodes that are not there yet are soon.
            Err(Refused::NoPool(_)) => {
                let missing = "its pool is not there yet".to_owned();
                return Err(Stopped(Outcome::Again(LOOK, missing)));
            }
            other => other?,
        }
        self.wait_pool(&pool, |view| match power {
            Power::Running => {
                let least = view.spec.scaling.min.max(1);
                all_serve(view, least)
            }
            Power::Suspended => paused(view),
            Power::Stopped if view.instances.is_empty() => Ok(()),
            Power::Stopped => Err(format!(
                "{} instances are there still",
                view.instances.len()
            )),
        })
        .await?;
        if power == Power::Running && self.member.kind == MemberKind::Balancer {
            return self.wait_balancer(COMPLETE).await;
        }
        Ok(())
    }
}

/// The least number of instances of a pool that serve.
fn all_serve(view: &PoolView, least: u32) -> Result<(), String> {
    let serving = view.serving().count();
    if view.power == Power::Running && serving >= least as usize {
        return Ok(());
    }
    let instances = view.instances.iter();
    let first = instances.filter(|one| !one.state.serves()).map(|one| {
        let why = if one.reason.is_empty() {
            &one.phase
        } else {
            &one.reason
        };
        format!(": {}: {why}", one.name)
    });
    let first = first.into_iter().next().unwrap_or_default();
    Err(format!("{serving} of {least} instances serve{first}"))
}

fn paused(view: &PoolView) -> Result<(), String> {
    let running = view.instances.iter().filter(|one| one.phase == "running");
    let doing = view.instances.iter().find_map(|one| one.doing);
    match (running.count(), doing) {
        (0, None) => Ok(()),
        (0, Some(doing)) => Err(format!("an instance is {doing}")),
        (count, _) => Err(format!("{count} instances are not paused yet")),
    }
}

/// Has a load balancer send its clients to these.
pub(super) async fn tell(
    projects: &Projects,
    view: &BalancerView,
    backends: Vec<Value>,
) -> Result<(), OrderError> {
    let mut patch = Map::new();
    patch.insert("backends".to_owned(), backends.into());
    let (project, id) = (Key::Id(view.record.project), Key::Id(view.record.id));
    let told = projects.update_balancer(&project, &id, &patch, Update::Patch);
    told.await.map(drop)
}
