//! Events of members, and what handlers make of them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    record::{Environment, Member, MemberKind, default_priority},
    verbs::{self, BIND, EXPEL, NewMember, READMIT},
};
use crate::{command::NewCommand, queue::Outcome};

/// The role of web servers.
pub const WEB: &str = "web";
/// The role of load balancers.
pub const BALANCER: &str = "balancer";

/// What members hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The member itself is about to be added.
    BeforeItIsAdded,
    /// The member itself was added.
    AfterItIsAdded,
    /// Another member is about to be added.
    BeforeOtherIsAdded,
    /// Another member was added.
    AfterOtherIsAdded,
    /// The member is down.
    IsDown,
    /// The member is up again.
    IsUp,
    /// The environment was started.
    AfterStart,
    /// The environment is about to be stopped or destroyed.
    BeforeStop,
}

impl Event {
    /// All.
    pub const ALL: [Event; 8] = [
        Event::BeforeItIsAdded,
        Event::AfterItIsAdded,
        Event::BeforeOtherIsAdded,
        Event::AfterOtherIsAdded,
        Event::IsDown,
        Event::IsUp,
        Event::AfterStart,
        Event::BeforeStop,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Event::BeforeItIsAdded => "before_it_is_added",
            Event::AfterItIsAdded => "after_it_is_added",
            Event::BeforeOtherIsAdded => "before_other_is_added",
            Event::AfterOtherIsAdded => "after_other_is_added",
            Event::IsDown => "is_down",
            Event::IsUp => "is_up",
            Event::AfterStart => "after_start",
            Event::BeforeStop => "before_stop",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A handler of the operator. How it is called stands in the settings of the environment, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnHandler {
    /// Its name.
    pub name: String,
    /// What it hears of.
    pub event: Event,
    /// Members of this role only; of all if empty.
    #[serde(default)]
    pub role: String,
    /// Among the handlers of a member's event: the lowest first. The one that is built in has 0.
    #[serde(default)]
    pub priority: u32,
}

/// What a handler makes of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Verdict {
    /// Nothing.
    #[default]
    Nothing,
    /// It is not to be, for this reason.
    Veto(String),
    /// These are to be first, one after the other.
    Order(Vec<NewCommand>),
}

/// What the handler makes of an event that is built in for a member's role. `other` is the member that is added.
#[must_use]
pub fn built_in(
    environment: &Environment,
    me: &Member,
    event: Event,
    other: Option<&Member>,
) -> Verdict {
    match (me.role.as_str(), event) {
        (WEB, Event::BeforeItIsAdded) => bring_balancer(environment, me),
        (BALANCER, Event::AfterItIsAdded) if me.kind == MemberKind::Balancer => {
            let webs = environment.by_priority().into_iter();
            let webs = webs.filter(|one| one.serves_as(WEB) && one.kind == MemberKind::Pool);
            ordered(webs.map(|web| verbs::bind(environment, me, web, BIND)))
        }
        (BALANCER, Event::AfterOtherIsAdded) if me.kind == MemberKind::Balancer => {
            let web = other.filter(|other| other.role == WEB && other.kind == MemberKind::Pool);
            ordered(web.map(|web| verbs::bind(environment, me, web, BIND)))
        }
        (BALANCER, Event::IsDown) if me.kind == MemberKind::Balancer => replace(environment, me),
        _ => Verdict::Nothing,
    }
}

fn ordered(commands: impl IntoIterator<Item = NewCommand>) -> Verdict {
    let commands = commands.into_iter().zip(0..);
    let commands: Vec<NewCommand> = commands
        .map(|(command, step)| command.in_step(step))
        .collect();
    if commands.is_empty() {
        Verdict::Nothing
    } else {
        Verdict::Order(commands)
    }
}

/// The second web member needs a load balancer before it.
fn bring_balancer(environment: &Environment, me: &Member) -> Verdict {
    let has_web = environment
        .members
        .iter()
        .any(|one| one.id != me.id && one.serves_as(WEB));
    let has_balancer = environment
        .members
        .iter()
        .any(|one| one.serves_as(BALANCER));
    if !environment.brings_balancer || !has_web || has_balancer {
        return Verdict::Nothing;
    }
    let new = NewMember {
        name: environment.free_name(BALANCER),
        role: BALANCER.to_owned(),
        priority: default_priority(BALANCER),
        kind: MemberKind::Balancer,
        settings: environment.balancer.clone(),
        brought_by: Some(me.id),
        replaces: None,
    };
    ordered([verbs::add(environment.id, &new)])
}

/// A load balancer that is down is illegal from now on, and another one takes its place.
fn replace(environment: &Environment, me: &Member) -> Verdict {
    let base = me.name.trim_end_matches(|c: char| c.is_ascii_digit());
    let base = base.strip_suffix('-').unwrap_or(&me.name);
    let new = NewMember {
        name: environment.free_name(base),
        role: me.role.clone(),
        priority: me.priority,
        kind: me.kind,
        settings: me.settings.clone(),
        // It stands for the one before.
        brought_by: me.brought_by,
        replaces: Some(me.id),
    };
    ordered([
        verbs::about_member(environment, me, EXPEL).undone_by(READMIT),
        verbs::add(environment.id, &new),
    ])
}

impl Verdict {
    /// How a command ends whose whole work is this verdict.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Verdict::Nothing => Outcome::Done(Value::Null),
            Verdict::Veto(why) => Outcome::Refused(why),
            Verdict::Order(commands) => Outcome::Children(commands, Value::Null),
        }
    }
}
