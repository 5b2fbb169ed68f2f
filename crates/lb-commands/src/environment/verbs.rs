//! The verbs of commands about environments, and the commands themselves.

use serde_json::{Map, Value};

use super::record::{Environment, Member, MemberKind};
use crate::command::NewCommand;

/// Verbs that change the record of an environment, and order others. They are run purely.
pub const PURE: [&str; 16] = [
    CREATE, UPDATE, ADD, UNDO_ADD, REMOVE, START, STOP, SUSPEND, RESUME, CLONE, DESTROY, IS_DOWN,
    IS_UP, EXPEL, READMIT, COLLECT,
];

/// A new environment.
pub const CREATE: &str = "create";
/// Its settings change.
pub const UPDATE: &str = "update";
/// A member is added.
pub const ADD: &str = "add";
/// A member that was added is removed again.
pub const UNDO_ADD: &str = "undo-add";
/// A member is removed.
pub const REMOVE: &str = "remove";
/// All members are started.
pub const START: &str = "start";
/// All members are stopped.
pub const STOP: &str = "stop";
/// All members are suspended.
pub const SUSPEND: &str = "suspend";
/// All members are resumed.
pub const RESUME: &str = "resume";
/// Another environment gets the same members.
pub const CLONE: &str = "clone";
/// The environment goes, with its members.
pub const DESTROY: &str = "destroy";
/// A member is down.
pub const IS_DOWN: &str = "is-down";
/// A member is up again.
pub const IS_UP: &str = "is-up";
/// A member is illegal from now on.
pub const EXPEL: &str = "expel";
/// A member is legal again.
pub const READMIT: &str = "readmit";
/// An illegal member that is back goes.
pub const COLLECT: &str = "collect";

/// A pool is made, and serves.
pub const CREATE_POOL: &str = "create-pool";
/// A load balancer is made, and serves.
pub const CREATE_BALANCER: &str = "create-balancer";
/// A pool goes.
pub const DELETE_POOL: &str = "delete-pool";
/// A load balancer goes.
pub const DELETE_BALANCER: &str = "delete-balancer";
/// A load balancer has a member among its backends.
pub const BIND: &str = "bind";
/// It has it no longer.
pub const UNBIND: &str = "unbind";
/// An operator's own handler is called.
pub const CALL: &str = "call";

/// The argument with the number of the environment.
pub const ENVIRONMENT: &str = "environment";
/// The argument with the number of the member that a command is about.
pub const MEMBER: &str = "member";
/// The argument with the number of another member.
pub const OTHER: &str = "other";

/// Whether a run of a command with this verb is pure.
#[must_use]
pub fn is_pure(verb: &str) -> bool {
    PURE.contains(&verb)
}

/// The object of commands about an environment.
#[must_use]
pub fn object(environment: u64) -> String {
    format!("environment/{environment}")
}

/// The object of commands about a member.
#[must_use]
pub fn member_object(environment: u64, member: u32) -> String {
    format!("environment/{environment}/member/{member}")
}

/// A command about an environment as a whole.
#[must_use]
pub fn about_all(environment: u64, name: &str, verb: &str) -> NewCommand {
    let command = NewCommand::new(object(environment), verb).with(ENVIRONMENT, environment);
    let command = command.about(format!("{verb} {name}"));
    match verb {
        // What could not be done with all is not left half done.
        SUSPEND => command.undone_by(RESUME),
        RESUME => command.undone_by(SUSPEND),
        _ => command,
    }
}

/// A member that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMember {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its priority.
    pub priority: u32,
    /// What it is.
    pub kind: MemberKind,
    /// The settings of its pool or load balancer.
    pub settings: Map<String, Value>,
    /// The member whose handler brings it.
    pub brought_by: Option<u32>,
    /// The member in whose place it is, which is down.
    pub replaces: Option<u32>,
}

/// Adds a member.
#[must_use]
pub fn add(environment: u64, new: &NewMember) -> NewCommand {
    let mut command = NewCommand::new(object(environment), ADD)
        .with(ENVIRONMENT, environment)
        .with("name", new.name.as_str())
        .with("role", new.role.as_str())
        .with("priority", new.priority)
        .with("kind", new.kind.name())
        .with("settings", new.settings.clone());
    if let Some(by) = new.brought_by {
        command = command.with("brought_by", by);
    }
    if let Some(other) = new.replaces {
        command = command.with("replaces", other);
    }
    command
        .about(format!("add {}", new.name))
        .undone_by(UNDO_ADD)
}

/// A command about a member, at the environment.
#[must_use]
pub fn about_member(environment: &Environment, member: &Member, verb: &str) -> NewCommand {
    NewCommand::new(object(environment.id), verb)
        .with(ENVIRONMENT, environment.id)
        .with(MEMBER, member.id)
        .about(format!("{verb} {}", member.name))
}

/// A command that is done to what a member is, such as `create-pool`.
#[must_use]
pub fn of_member(environment: &Environment, member: &Member, verb: &str) -> NewCommand {
    let command = NewCommand::new(
        member_object(environment.id, member.id),
        format!("{verb}-{}", member.kind.name()),
    );
    let command = command
        .with(ENVIRONMENT, environment.id)
        .with(MEMBER, member.id)
        .about(format!("{verb} {}", member.name));
    match (verb, member.kind) {
        ("create", MemberKind::Pool) => command.undone_by(DELETE_POOL),
        ("create", MemberKind::Balancer) => command.undone_by(DELETE_BALANCER),
        _ => command,
    }
}

/// Binds a member to a load balancer, or unbinds it.
#[must_use]
pub fn bind(
    environment: &Environment,
    balancer: &Member,
    member: &Member,
    verb: &str,
) -> NewCommand {
    let word = if verb == BIND { "to" } else { "from" };
    let command = NewCommand::new(member_object(environment.id, balancer.id), verb)
        .with(ENVIRONMENT, environment.id)
        .with(MEMBER, balancer.id)
        .with(OTHER, member.id)
        .about(format!("{verb} {} {word} {}", member.name, balancer.name));
    if verb == BIND {
        command.undone_by(UNBIND)
    } else {
        command
    }
}
