//! The task that follows environments: load balancers have the addresses of the members that are bound to them, those that are down
//! are noticed, and what is illegal is collected when it is back.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use lb_commands::{
    command::NewCommand,
    environment::{
        Environment, Member, MemberKind, Power, Standing,
        verbs::{self, COLLECT, DESTROY, IS_DOWN, IS_UP},
    },
};
use lb_model::{
    environment::{EnvironmentSpec, is_pool_of_environment, pool_of_member},
    pool::PoolName,
};
use tokio::{sync::watch, time::Instant};

use super::{
    Environments,
    execute::{backends, balancer_of, tell, told_backends},
};
use crate::{
    KINDS, clock::unix_now, pool::PoolOwner, projects::SERVING, registry::Key, worker::PoolView,
};

/// See [`lb_serve::vital`].
pub const FOLLOWER: &str = "the task that follows environments";
/// How often it looks at all of them.
const LOOK: Duration = Duration::from_secs(1);
/// The least time between two looks.
const CALM: Duration = Duration::from_millis(50);
/// When something is ordered again that has not helped.
const AGAIN: Duration = Duration::from_secs(60);

/// What is remembered of a member.
#[derive(Debug, Default)]
struct Watched {
    /// Since when it does not serve.
    down_since: Option<Instant>,
    /// When it was told that it is down.
    told: Option<Instant>,
    /// When it was ordered to be collected.
    collected: Option<Instant>,
}

/// What is remembered.
#[derive(Debug, Default)]
struct Memory {
    members: HashMap<(u64, u32), Watched>,
    /// When an environment was ordered to go.
    destroyed: HashMap<u64, Instant>,
}

fn is_due(last: Option<Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() > AGAIN)
}

/// Follows the environments for ever.
pub(super) async fn run(environments: Environments) {
    let mut memory = Memory::default();
    loop {
        let mut names = environments.controller.names();
        names.mark_unchanged();
        let mut views = followed(&environments);
        let mut commands = environments.commands.changed();
        commands.mark_unchanged();
        let mut serving = environments.projects.serving();
        look(&environments, &mut memory).await;
        tokio::time::sleep(CALM).await;
        let any = async {
            let any: Vec<_> = views
                .iter_mut()
                .map(|view| Box::pin(view.changed()))
                .collect();
            if any.is_empty() {
                std::future::pending::<()>().await;
            }
            // One whose pool is gone changes no more; the names do.
            let _ = futures::future::select_all(any).await;
        };
        tokio::select! {
            () = any => {}
            _ = names.changed() => {}
            _ = commands.changed() => {}
            _ = serving.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The pools of environments, as they change.
fn followed(environments: &Environments) -> Vec<watch::Receiver<PoolView>> {
    let controller = &environments.controller;
    let names = controller.pool_names().into_iter();
    let names = names.filter(is_pool_of_environment);
    names
        .filter_map(|name| controller.follower(&name))
        .filter(|view| view.has_changed().is_ok())
        .map(|mut view| {
            view.mark_unchanged();
            view
        })
        .collect()
}

async fn look(environments: &Environments, memory: &mut Memory) {
    let (all, busy) = environments.commands.read(|state| {
        let all: Vec<Environment> = state.environments().cloned().collect();
        let busy: HashSet<String> = all
            .iter()
            .flat_map(|one| {
                one.members
                    .iter()
                    .map(|member| verbs::member_object(one.id, member.id))
            })
            .filter(|object| state.queue.is_busy(object))
            .collect();
        (all, busy)
    });
    let is_there = |id: u64, member: u32| {
        let found = all.iter().find(|one| one.id == id);
        found.is_some_and(|one| one.member(member).is_some())
    };
    memory
        .members
        .retain(|(id, member), _| is_there(*id, *member));
    memory
        .destroyed
        .retain(|id, _| all.iter().any(|one| one.id == *id));
    for environment in &all {
        for member in &environment.members {
            let is_busy = busy.contains(&verbs::member_object(environment.id, member.id));
            if !is_busy && member.kind == MemberKind::Balancer {
                bind(environments, environment, member).await;
            }
            let watched = memory
                .members
                .entry((environment.id, member.id))
                .or_default();
            if let Some(command) = notice(environments, environment, member, is_busy, watched) {
                submit(environments, command).await;
            }
        }
        if !has_project(environments, environment)
            && is_due(memory.destroyed.get(&environment.id).copied())
        {
            memory.destroyed.insert(environment.id, Instant::now());
            let command = verbs::about_all(environment.id, &environment.name, DESTROY);
            submit(environments, command).await;
        }
    }
    remove_strangers(environments, &all).await;
}

async fn submit(environments: &Environments, command: NewCommand) {
    let about = command.about.clone();
    if let Err(error) = environments.commands.submit(command).await {
        tracing::warn!("{about}: {error}; it is tried again");
    }
}

/// Whether the project is there, and is to stay.
fn has_project(environments: &Environments, environment: &Environment) -> bool {
    let project = environments.projects.project(&Key::Id(environment.project));
    environment.is_deleted || project.is_ok_and(|view| !view.record.is_deleted)
}

/// Gives a load balancer the addresses of its members.
async fn bind(environments: &Environments, environment: &Environment, member: &Member) {
    if !member.is_legal() || environment.power != Power::Running {
        return;
    }
    let Some(view) = balancer_of(&environments.projects, environment, member) else {
        return;
    };
    let legal = |id: &u32| environment.member(*id).is_some_and(Member::is_legal);
    let bound: Vec<u32> = member.bound.iter().copied().filter(legal).collect();
    let wanted = backends(&environments.controller, environment, &bound);
    // While nobody serves, it keeps those that it had: they may be back, and its own check knows.
    let is_silent = wanted.is_empty() && !bound.is_empty();
    if is_silent || view.record.is_deleted || told_backends(&view) == wanted {
        return;
    }
    if let Err(error) = tell(&environments.projects, &view, wanted).await {
        tracing::warn!(
            "{}: telling it its backends: {error}; it is tried again",
            view.record.name
        );
    }
}

/// Whether a member serves; `None` if that is not known yet.
fn member_serves(
    environments: &Environments,
    environment: &Environment,
    member: &Member,
) -> Option<bool> {
    match member.kind {
        MemberKind::Pool => {
            let pool = pool_of_member(environment.id, member.id);
            let views = environments
                .controller
                .views(Some(&pool))
                .unwrap_or_default();
            Some(views.iter().any(|view| view.serving().next().is_some()))
        }
        MemberKind::Balancer => {
            let view = balancer_of(&environments.projects, environment, member);
            match view {
                Some(view) if view.seen.conditions.is_empty() => None,
                Some(view) => Some(view.seen.is(SERVING)),
                None => Some(false),
            }
        }
    }
}

/// What is to be ordered about a member, since it is down, or up again.
fn notice(
    environments: &Environments,
    environment: &Environment,
    member: &Member,
    is_busy: bool,
    watched: &mut Watched,
) -> Option<NewCommand> {
    if environment.power != Power::Running || environment.is_deleted || is_busy {
        *watched = Watched::default();
        return None;
    }
    let spec = EnvironmentSpec::read(&environment.spec, KINDS.probes).ok()?;
    let serves = member_serves(environments, environment, member)?;
    match member.standing {
        Standing::Illegal => {
            let age = unix_now().saturating_sub(member.since);
            let is_over = serves || age > spec.collect_after;
            (is_over && is_due(watched.collected)).then(|| {
                watched.collected = Some(Instant::now());
                verbs::about_member(environment, member, COLLECT)
            })
        }
        Standing::Member if serves => {
            watched.down_since = None;
            let told = watched.told.take()?;
            tracing::info!(
                "{} of {} is up again after {:?}",
                member.name,
                environment.name,
                told.elapsed()
            );
            Some(verbs::about_member(environment, member, IS_UP))
        }
        Standing::Member => {
            let since = *watched.down_since.get_or_insert_with(Instant::now);
            let is_first = watched.told.is_none();
            // A load balancer that could not be replaced is replaced when it can be.
            let is_again = member.kind == MemberKind::Balancer && is_due(watched.told);
            if since.elapsed() < spec.down_after || !(is_first || is_again) {
                return None;
            }
            watched.told = Some(Instant::now());
            let cause = cause(environments, environment, member);
            tracing::warn!("{} of {} is down: {cause}", member.name, environment.name);
            let command = verbs::about_member(environment, member, IS_DOWN);
            Some(NewCommand {
                patience: Some(spec.patience),
                ..command.with("cause", cause)
            })
        }
        Standing::Joining | Standing::Leaving => None,
    }
}

/// Why a member does not serve, in words.
fn cause(environments: &Environments, environment: &Environment, member: &Member) -> String {
    let found = match member.kind {
        MemberKind::Balancer => {
            let view = balancer_of(&environments.projects, environment, member);
            view.and_then(|view| {
                let conditions = view.seen.conditions.into_iter();
                conditions
                    .filter(|one| one.kind == SERVING)
                    .map(|one| one.why)
                    .next()
            })
        }
        MemberKind::Pool => {
            let pool = pool_of_member(environment.id, member.id);
            let views = environments
                .controller
                .views(Some(&pool))
                .unwrap_or_default();
            let instances = views.into_iter().flat_map(|view| view.instances);
            instances
                .map(|one| format!("{}: {}", one.name, one.reason))
                .next()
        }
    };
    found.unwrap_or_else(|| "it is not there".to_owned())
}

/// Deletes pools of members that are not there, as a restored store may have them.
async fn remove_strangers(environments: &Environments, all: &[Environment]) {
    let mut known: HashSet<PoolName> = HashSet::new();
    for environment in all {
        let members = environment.members.iter();
        known.extend(members.map(|member| pool_of_member(environment.id, member.id)));
    }
    environments
        .controller
        .unmake_orphans(FOLLOWER, PoolOwner::Environment, |name| {
            known.contains(name)
        })
        .await;
}
