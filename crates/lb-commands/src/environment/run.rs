//! A run of a command about an environment, purely: what its record becomes, and which commands come next. Both are stored in
//! one transaction with the command, so that a run happens once, whenever the process is killed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    handler::{Event, Verdict, built_in},
    record::{Environment, MAX_MEMBERS, Member, MemberKind, Power, Rules, Standing},
    verbs::*,
};
use crate::{
    command::{Command, NewCommand},
    queue::{Outcome, UNDOES},
};

/// What becomes of the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It stays.
    Nothing,
    /// It is this.
    Put(Box<Environment>),
    /// It goes.
    Remove,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// What becomes of the record.
    pub change: Change,
    /// How the run ended.
    pub outcome: Outcome,
}

/// What a command remembers from one stage to the next.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memo {
    /// How far it is.
    phase: u8,
    /// The member that it is about.
    member: u32,
    /// Handlers that are called one after the other.
    calls: Vec<Call>,
    /// The next of these.
    at: usize,
}

/// A call of a handler.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Call {
    member: u32,
    event: Event,
    other: Option<u32>,
    /// The operator's own handler; without it the one that is built in.
    handler: Option<String>,
}

/// It is not to be; called before anything was done.
fn refused(why: impl Into<String>) -> Ran {
    Ran {
        change: Change::Nothing,
        outcome: Outcome::Rejected(why.into()),
    }
}

/// It does not go on.
fn given_up(why: impl Into<String>) -> Ran {
    Ran {
        change: Change::Nothing,
        outcome: Outcome::Refused(why.into()),
    }
}

fn nothing(found: Value) -> Ran {
    Ran {
        change: Change::Nothing,
        outcome: Outcome::Done(found),
    }
}

/// The handlers of a member that hear of an event, in their order.
fn calls(
    environment: &Environment,
    member: &Member,
    event: Event,
    other: Option<u32>,
) -> Vec<Call> {
    let own = environment.handlers.iter();
    let own =
        own.filter(|one| one.event == event && (one.role.is_empty() || one.role == member.role));
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|one| one.priority);
    let names = own.into_iter().map(|one| Some(one.name.clone()));
    std::iter::once(None)
        .chain(names)
        .map(|handler| Call {
            member: member.id,
            event,
            other,
            handler,
        })
        .collect()
}

/// Runs a command whose verb is one of [`PURE`]. `environment` is the one that it is about, if that exists.
#[must_use]
pub fn run(environment: Option<&Environment>, command: &Command, now: Duration) -> Ran {
    let Some(environment) = environment else {
        return match command.verb.as_str() {
            // What is gone needs nothing.
            DESTROY | UNDO_ADD | REMOVE | COLLECT | IS_DOWN | IS_UP => nothing(Value::Null),
            _ => refused("the environment is gone"),
        };
    };
    let memo = serde_json::from_value(command.memo.clone()).unwrap_or_default();
    let run = Run {
        before: environment,
        environment: environment.clone(),
        command,
        memo,
        now,
    };
    let is_ending = matches!(command.verb.as_str(), DESTROY | REMOVE | UNDO_ADD | COLLECT);
    if environment.is_deleted && !is_ending && !command.is_undo {
        return refused(format!(
            "the environment {} is being destroyed",
            environment.name
        ));
    }
    match command.verb.as_str() {
        CREATE => nothing(json!({ ENVIRONMENT: environment.id })),
        UPDATE => run.update(),
        ADD => run.add(),
        UNDO_ADD => run.undo_add(),
        REMOVE => run.remove(),
        START => run.start(),
        RESUME => run.power(Power::Running),
        SUSPEND => run.power(Power::Suspended),
        STOP => run.stop(),
        CLONE => run.clone_to(),
        DESTROY => run.destroy(),
        IS_DOWN => run.tell(Event::IsDown),
        IS_UP => run.tell(Event::IsUp),
        EXPEL => run.stand(Standing::Illegal),
        READMIT => run.stand(Standing::Member),
        COLLECT => run.collect(),
        other => refused(format!("{other} is no command about an environment")),
    }
}

/// What becomes of an environment when a command about one of its members is done.
#[must_use]
pub fn applied(environment: &Environment, command: &Command) -> Option<Environment> {
    let other = u32::try_from(command.number(OTHER)).unwrap_or_default();
    let mut changed = environment.clone();
    let id = u32::try_from(command.number(MEMBER)).unwrap_or_default();
    let balancer = changed.member_mut(id)?;
    match command.verb.as_str() {
        BIND if !balancer.bound.contains(&other) => balancer.bound.push(other),
        UNBIND => balancer.bound.retain(|bound| *bound != other),
        _ => return None,
    }
    changed.generation += 1;
    Some(changed)
}

struct Run<'a> {
    before: &'a Environment,
    environment: Environment,
    command: &'a Command,
    memo: Memo,
    now: Duration,
}

impl Run<'_> {
    fn ran(self, outcome: Outcome) -> Ran {
        let change = if self.environment == *self.before {
            Change::Nothing
        } else {
            Change::Put(Box::new(self.environment))
        };
        Ran { change, outcome }
    }

    fn done(self, found: Value) -> Ran {
        self.ran(Outcome::Done(found))
    }

    /// Has commands run, and goes on with this phase when they are done.
    fn order(mut self, commands: Vec<NewCommand>, phase: u8) -> Ran {
        self.memo.phase = phase;
        let memo = serde_json::to_value(&self.memo).unwrap_or_default();
        self.ran(Outcome::Children(commands, memo))
    }

    /// Calls the handlers that are left, up to one that orders something. `Ok` when all were called.
    fn call(mut self) -> Result<Self, Ran> {
        while let Some(call) = self.memo.calls.get(self.memo.at).cloned() {
            self.memo.at += 1;
            let Some(member) = self.environment.member(call.member) else {
                continue;
            };
            let other = call.other.and_then(|id| self.environment.member(id));
            let verdict = match &call.handler {
                None => built_in(&self.environment, member, call.event, other),
                Some(name) => Verdict::Order(vec![self.own(name, &call, member, other)]),
            };
            match verdict {
                Verdict::Nothing => {}
                Verdict::Veto(why) => return Err(self.ran(Outcome::Refused(why))),
                Verdict::Order(commands) => {
                    let phase = self.memo.phase;
                    return Err(self.order(commands, phase));
                }
            }
        }
        Ok(self)
    }

    /// The command that calls an operator's own handler.
    fn own(&self, name: &str, call: &Call, member: &Member, other: Option<&Member>) -> NewCommand {
        let id = self.environment.id;
        let mut command = NewCommand::new(format!("environment/{id}/handler/{name}"), CALL)
            .with(ENVIRONMENT, id)
            .with("handler", name)
            .with("event", call.event.name())
            .with(MEMBER, member.id);
        if let Some(other) = other {
            command = command.with(OTHER, other.id);
        }
        let cause = self.command.text("cause");
        if !cause.is_empty() {
            command = command.with("cause", cause);
        }
        command.about(format!("call {name}: {} of {}", call.event, member.name))
    }

    fn update(mut self) -> Ran {
        let settings = self.command.arguments.get("settings").cloned();
        match settings.map(serde_json::from_value::<Rules>) {
            Some(Ok(rules)) => self.environment.follow(rules),
            _ => return refused("its settings cannot be read"),
        }
        self.done(Value::Null)
    }

    fn member_of(&self) -> Option<Member> {
        let id = u32::try_from(self.command.number(MEMBER)).unwrap_or_default();
        let name = self.command.text("name");
        let found = self
            .environment
            .member(id)
            .or_else(|| self.environment.named(name));
        found.cloned()
    }

    fn add(mut self) -> Ran {
        const CALLS_BEFORE: u8 = 1;
        const MADE: u8 = 2;
        const CALLS_AFTER: u8 = 3;
        if self.memo.phase == 0 {
            if let Err(why) = self.join() {
                return refused(why);
            }
            self.memo.phase = CALLS_BEFORE;
        }
        if self.memo.phase == CALLS_BEFORE {
            self = match self.call() {
                Ok(run) => run,
                Err(ran) => return ran,
            };
            let Some(member) = self.environment.member(self.memo.member) else {
                return given_up("it was removed while it was being added");
            };
            let create = of_member(&self.environment, member, "create");
            return self.order(vec![create], MADE);
        }
        if self.memo.phase == MADE {
            let id = self.memo.member;
            self.environment.stand(id, Standing::Member, "", self.now);
            let Some(member) = self.environment.member(id) else {
                return given_up("it was removed while it was being added");
            };
            let mut list = calls(&self.environment, member, Event::AfterItIsAdded, None);
            for other in self.others(id) {
                list.extend(calls(
                    &self.environment,
                    other,
                    Event::AfterOtherIsAdded,
                    Some(id),
                ));
            }
            self.memo.calls = list;
            self.memo.at = 0;
            self.memo.phase = CALLS_AFTER;
        }
        match self.call() {
            Ok(run) => {
                let member = run.memo.member;
                run.done(json!({ MEMBER: member }))
            }
            Err(ran) => ran,
        }
    }

    fn others(&self, id: u32) -> Vec<&Member> {
        let mut others = self.environment.by_priority();
        others.retain(|one| one.id != id && one.is_legal());
        others
    }

    /// Notes a member that is being added, and who hears of that.
    fn join(&mut self) -> Result<(), String> {
        let (command, environment) = (self.command, &mut self.environment);
        let name = command.text("name");
        if let Some(other) = environment.named(name) {
            return Err(format!(
                "there is a member {name} already, which is {}; give another name",
                other.standing.name()
            ));
        }
        if environment.members.len() >= MAX_MEMBERS {
            return Err(format!("an environment has {MAX_MEMBERS} members at most"));
        }
        let kind = match command.text("kind") {
            "balancer" => MemberKind::Balancer,
            _ => MemberKind::Pool,
        };
        let small = |name: &str| u32::try_from(command.number(name)).unwrap_or(u32::MAX);
        let given = |name: &str| command.arguments.contains_key(name).then(|| small(name));
        environment.last_member += 1;
        let id = environment.last_member;
        environment.members.push(Member {
            id,
            name: name.to_owned(),
            role: command.text("role").to_owned(),
            priority: small("priority"),
            kind,
            settings: command
                .arguments
                .get("settings")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            standing: Standing::Joining,
            brought_by: given("brought_by"),
            replaces: given("replaces"),
            bound: Vec::new(),
            added_by: command.id,
            since: self.now,
            why: String::new(),
        });
        environment.generation += 1;
        self.memo.member = id;
        let mut list = Vec::new();
        if let Some(member) = self.environment.member(id) {
            list.extend(calls(
                &self.environment,
                member,
                Event::BeforeItIsAdded,
                None,
            ));
        }
        for other in self.others(id) {
            list.extend(calls(
                &self.environment,
                other,
                Event::BeforeOtherIsAdded,
                Some(id),
            ));
        }
        self.memo.calls = list;
        Ok(())
    }

    fn undo_add(mut self) -> Ran {
        if self.memo.phase == 0 {
            let added_by = self.command.number(UNDOES);
            let members = self.environment.members.iter();
            let found = members.clone().find(|one| one.added_by == added_by);
            match found.map(|member| member.id) {
                Some(id) => self.memo.member = id,
                None => return nothing(Value::Null),
            }
        }
        self.leave()
    }

    fn remove(mut self) -> Ran {
        if self.memo.phase == 0 {
            match self.member_of() {
                Some(member) => self.memo.member = member.id,
                None => return refused("there is no such member"),
            }
        }
        self.leave()
    }

    fn collect(mut self) -> Ran {
        if self.memo.phase == 0 {
            match self.member_of() {
                Some(member) if member.standing == Standing::Illegal => {
                    self.memo.member = member.id;
                }
                _ => return nothing(Value::Null),
            }
        }
        self.leave()
    }

    /// Unbinds a member, has what it is deleted, and forgets it.
    fn leave(mut self) -> Ran {
        let id = self.memo.member;
        if self.memo.phase > 0 {
            self.environment.members.retain(|one| one.id != id);
            self.environment.generation += 1;
            return self.done(Value::Null);
        }
        let is_illegal = self
            .environment
            .member(id)
            .is_some_and(|one| one.standing == Standing::Illegal);
        if !is_illegal {
            let why = "it is being removed";
            self.environment.stand(id, Standing::Leaving, why, self.now);
        }
        let Some(member) = self.environment.member(id) else {
            return nothing(Value::Null);
        };
        let balancers = self.environment.members.iter();
        let balancers =
            balancers.filter(|one| one.bound.contains(&id) && one.standing != Standing::Illegal);
        let mut commands: Vec<NewCommand> = balancers
            .map(|balancer| bind(&self.environment, balancer, member, UNBIND))
            .collect();
        commands.push(of_member(&self.environment, member, "delete").in_step(1));
        self.order(commands, 1)
    }

    /// A command for each member, those of lower priority first, or last.
    fn each(&self, verb: &str, is_reversed: bool) -> Vec<NewCommand> {
        let mut members = self.environment.by_priority();
        if verb == "delete" {
            let illegal = self.environment.members.iter();
            members.extend(illegal.filter(|one| one.standing == Standing::Illegal));
        } else {
            members.retain(|one| one.is_legal());
        }
        let mut priorities: Vec<u32> = members.iter().map(|one| one.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        if is_reversed {
            priorities.reverse();
        }
        let commands = members.into_iter().map(|member| {
            let step = priorities.iter().position(|one| *one == member.priority);
            let step = u32::try_from(step.unwrap_or_default()).unwrap_or_default();
            of_member(&self.environment, member, verb).in_step(step)
        });
        let mut commands: Vec<NewCommand> = commands.collect();
        commands.sort_by_key(|command| command.step);
        commands
    }

    fn set_power(&mut self, power: Power) {
        if self.environment.power != power {
            self.environment.power = power;
            self.environment.generation += 1;
        }
    }

    fn power(mut self, power: Power) -> Ran {
        if self.memo.phase > 0 {
            return self.done(Value::Null);
        }
        if power == Power::Suspended && self.environment.power == Power::Stopped {
            return refused("it is stopped; start it first");
        }
        let is_down = power != Power::Running;
        self.set_power(power);
        let verb = if is_down { "suspend" } else { "resume" };
        let commands = self.each(verb, is_down);
        self.order(commands, 1)
    }

    /// The handlers of all members that hear of an event.
    fn calls_of_all(&self, event: Event) -> Vec<Call> {
        let members = self.environment.by_priority();
        let legal = members.into_iter().filter(|one| one.is_legal());
        legal
            .flat_map(|one| calls(&self.environment, one, event, None))
            .collect()
    }

    fn start(mut self) -> Ran {
        if self.memo.phase == 0 {
            self.set_power(Power::Running);
            self.memo.calls = self.calls_of_all(Event::AfterStart);
            let commands = self.each("start", false);
            return self.order(commands, 1);
        }
        match self.call() {
            Ok(run) => run.done(Value::Null),
            Err(ran) => ran,
        }
    }

    /// Tells the members that they are to be stopped; `Ok` when all have heard of it.
    fn before_stop(mut self) -> Result<Self, Ran> {
        if self.memo.phase == 0 {
            self.memo.phase = 1;
            self.memo.calls = self.calls_of_all(Event::BeforeStop);
        }
        if self.memo.phase > 1 {
            return Ok(self);
        }
        self.call()
    }

    fn stop(self) -> Ran {
        let mut run = match self.before_stop() {
            Ok(run) => run,
            Err(ran) => return ran,
        };
        if run.memo.phase > 1 {
            return run.done(Value::Null);
        }
        run.set_power(Power::Stopped);
        let commands = run.each("stop", true);
        run.order(commands, 2)
    }

    fn destroy(self) -> Ran {
        let mut run = match self.before_stop() {
            Ok(run) => run,
            Err(ran) => return ran,
        };
        if run.memo.phase > 1 {
            return Ran {
                change: Change::Remove,
                outcome: Outcome::Done(Value::Null),
            };
        }
        run.environment.is_deleted = true;
        run.environment.generation += 1;
        let commands = run.each("delete", true);
        run.order(commands, 2)
    }

    /// Has another environment get the members of this one that nobody brought: the others come with them.
    fn clone_to(self) -> Ran {
        if self.memo.phase > 0 {
            let target = self.command.number("target");
            return self.done(json!({ ENVIRONMENT: target }));
        }
        let target = self.command.number("target");
        let settings = self.command.arguments.get("settings");
        let members = self.environment.members.iter();
        let members = members.filter(|one| one.is_legal() && one.brought_by.is_none());
        let commands = members.zip(0..).map(|(member, step)| {
            let other = settings.and_then(|settings| settings.get(&member.name));
            let new = NewMember {
                name: member.name.clone(),
                role: member.role.clone(),
                priority: member.priority,
                kind: member.kind,
                settings: other
                    .and_then(Value::as_object)
                    .unwrap_or(&member.settings)
                    .clone(),
                brought_by: None,
                replaces: None,
            };
            add(target, &new).in_step(step)
        });
        let commands = commands.collect();
        self.order(commands, 1)
    }

    /// Tells a member that it is down, or up again.
    fn tell(mut self, event: Event) -> Ran {
        if self.memo.phase == 0 {
            let member = self.member_of();
            let member = member.filter(Member::is_legal);
            let Some(member) = member.filter(|_| self.environment.power == Power::Running) else {
                return nothing(Value::Null);
            };
            self.memo.phase = 1;
            self.memo.calls = calls(&self.environment, &member, event, None);
        }
        match self.call() {
            Ok(run) => run.done(Value::Null),
            Err(ran) => ran,
        }
    }

    fn stand(mut self, standing: Standing) -> Ran {
        let Some(member) = self.member_of() else {
            return refused("there is no such member");
        };
        let why = match standing {
            Standing::Illegal => "another one has taken its place",
            _ => "",
        };
        self.environment.stand(member.id, standing, why, self.now);
        self.done(Value::Null)
    }
}
