//! What is stored of an environment.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::handler::OwnHandler;
use crate::command::CommandId;

/// Members of an environment at most.
pub const MAX_MEMBERS: usize = 64;

/// Whether members are to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// They serve.
    #[default]
    Running,
    /// They are paused: their memory and connections stay.
    Suspended,
    /// They have no instances.
    Stopped,
}

impl Power {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Power::Running => "running",
            Power::Suspended => "suspended",
            Power::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    /// A pool of instances.
    Pool,
    /// A load balancer of the project.
    Balancer,
}

impl MemberKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MemberKind::Pool => "pool",
            MemberKind::Balancer => "balancer",
        }
    }
}

/// How a member stands to its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is being added.
    Joining,
    /// It is a member.
    Member,
    /// It is being removed.
    Leaving,
    /// It was replaced while it was down: it is none any more, and is collected when it is back.
    Illegal,
}

impl Standing {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Joining => "joining",
            Standing::Member => "member",
            Standing::Leaving => "leaving",
            Standing::Illegal => "illegal",
        }
    }
}

/// A member of an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its number in the environment: none is given out twice.
    pub id: u32,
    /// Its name, unique in the environment.
    pub name: String,
    /// What it is for: `web`, `db`, `balancer`, or another word.
    pub role: String,
    /// Members of lower priority start first, stop last, and hear of events first.
    pub priority: u32,
    /// What it is.
    pub kind: MemberKind,
    /// The settings of its pool, or of its load balancer.
    pub settings: Map<String, Value>,
    /// How it stands to the environment.
    pub standing: Standing,
    /// The member whose handler brought it.
    #[serde(default)]
    pub brought_by: Option<u32>,
    /// The member in whose place it is, which was down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u32>,
    /// The members that a load balancer sends its clients to.
    #[serde(default)]
    pub bound: Vec<u32>,
    /// The command that added it.
    #[serde(default)]
    pub added_by: CommandId,
    /// Since when it stands so, since 1970.
    pub since: Duration,
    /// Why it stands so.
    #[serde(default)]
    pub why: String,
}

impl Member {
    /// Whether it hears of events, and others hear of it.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        self.standing == Standing::Member
    }

    /// Whether it is of this role, and legal.
    #[must_use]
    pub fn serves_as(&self, role: &str) -> bool {
        self.is_legal() && self.role == role
    }
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Its number.
    pub id: u64,
    /// The project that it is in.
    pub project: u64,
    /// Its name, unique in the project.
    pub name: String,
    /// Counts changes.
    pub generation: u64,
    /// When it was created, since 1970.
    pub created: Duration,
    /// The settings.
    #[serde(default)]
    pub spec: Map<String, Value>,
    /// Whether its members are to run.
    #[serde(default)]
    pub power: Power,
    /// Its members, in the order in which they were added.
    #[serde(default)]
    pub members: Vec<Member>,
    /// The last number that was given to a member.
    #[serde(default)]
    pub last_member: u32,
    /// The operator's own handlers.
    #[serde(default)]
    pub handlers: Vec<OwnHandler>,
    /// Settings of the load balancers that handlers bring.
    #[serde(default)]
    pub balancer: Map<String, Value>,
    /// Whether a load balancer is brought with the second web member.
    #[serde(default = "yes")]
    pub brings_balancer: bool,
    /// Whether it is being destroyed.
    #[serde(default)]
    pub is_deleted: bool,
}

const fn yes() -> bool {
    true
}

/// What the settings of an environment say that counts here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// All settings.
    pub spec: Map<String, Value>,
    /// The operator's own handlers.
    #[serde(default)]
    pub handlers: Vec<OwnHandler>,
    /// Settings of the load balancers that handlers bring.
    #[serde(default)]
    pub balancer: Map<String, Value>,
    /// Whether a load balancer is brought with the second web member.
    #[serde(default = "yes")]
    pub brings_balancer: bool,
}

impl Environment {
    /// Takes other settings.
    pub fn follow(&mut self, rules: Rules) {
        let Rules {
            spec,
            handlers,
            balancer,
            brings_balancer,
        } = rules;
        self.spec = spec;
        self.handlers = handlers;
        self.balancer = balancer;
        self.brings_balancer = brings_balancer;
        self.generation += 1;
    }

    /// An empty environment.
    #[must_use]
    pub fn new(id: u64, project: u64, name: &str, now: Duration) -> Self {
        Environment {
            id,
            project,
            name: name.to_owned(),
            generation: 1,
            created: now,
            spec: Map::new(),
            power: Power::Running,
            members: Vec::new(),
            last_member: 0,
            handlers: Vec::new(),
            balancer: Map::new(),
            brings_balancer: true,
            is_deleted: false,
        }
    }

    /// A member by its number.
    #[must_use]
    pub fn member(&self, id: u32) -> Option<&Member> {
        self.members.iter().find(|one| one.id == id)
    }

    /// A member by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|one| one.name == name)
    }

    pub(super) fn member_mut(&mut self, id: u32) -> Option<&mut Member> {
        self.members.iter_mut().find(|one| one.id == id)
    }

    /// The members that are not illegal, by priority.
    #[must_use]
    pub fn by_priority(&self) -> Vec<&Member> {
        let members = self.members.iter();
        let mut members: Vec<&Member> = members
            .filter(|one| one.standing != Standing::Illegal)
            .collect();
        members.sort_by_key(|one| (one.priority, one.id));
        members
    }

    /// A name for a member that no member has: this one, or with a number.
    #[must_use]
    pub fn free_name(&self, name: &str) -> String {
        let is_free = |name: &String| self.named(name).is_none();
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(is_free)
            .unwrap_or_default()
    }

    pub(super) fn stand(&mut self, id: u32, standing: Standing, why: &str, now: Duration) {
        if let Some(member) = self.member_mut(id) {
            member.standing = standing;
            member.since = now;
            why.clone_into(&mut member.why);
        }
        self.generation += 1;
    }
}

/// The priority of a role that says nothing about it.
#[must_use]
pub fn default_priority(role: &str) -> u32 {
    match role {
        "db" => 10,
        "balancer" => 30,
        _ => 20,
    }
}
