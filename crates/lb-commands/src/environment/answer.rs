//! What an operator's own handler may answer: nothing, `{"veto": "why"}`, or `{"commands": […]}`.

use serde_json::{Map, Value};

use super::{
    handler::Verdict,
    record::{Environment, Member, MemberKind, default_priority},
    verbs::{self, BIND, NewMember, REMOVE, RESUME, START, STOP, SUSPEND, UNBIND},
};
use crate::command::NewCommand;

/// Reads the answer of a handler.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(environment: &Environment, answer: &Value) -> Result<Verdict, String> {
    let map = match answer {
        Value::Null => return Ok(Verdict::Nothing),
        Value::Object(map) => map,
        _ => return Err("its answer is no JSON object".to_owned()),
    };
    if let Some(odd) = map
        .keys()
        .find(|key| !["veto", "commands"].contains(&key.as_str()))
    {
        return Err(format!("its answer has {odd:?}; give veto, or commands"));
    }
    match (map.get("veto"), map.get("commands")) {
        (Some(Value::String(why)), None) => Ok(Verdict::Veto(why.clone())),
        (Some(_), _) => Err("veto: give the reason as a text, and no commands".to_owned()),
        (None, Some(Value::Array(commands))) => {
            let commands = commands.iter().zip(0..).map(|(command, step)| {
                let read = command
                    .as_object()
                    .ok_or_else(|| "give an object".to_owned());
                let read = read.and_then(|command| order(environment, command));
                read.map(|command| command.in_step(step))
                    .map_err(|why| format!("commands[{step}]: {why}"))
            });
            let commands = commands.collect::<Result<Vec<_>, _>>()?;
            Ok(if commands.is_empty() {
                Verdict::Nothing
            } else {
                Verdict::Order(commands)
            })
        }
        (None, Some(_)) => Err("commands: give a list".to_owned()),
        (None, None) => Ok(Verdict::Nothing),
    }
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = map.get(name).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| format!("{name}: give a text"))
}

fn member<'a>(
    environment: &'a Environment,
    map: &Map<String, Value>,
    field: &str,
) -> Result<&'a Member, String> {
    let name = text(map, field)?;
    environment
        .named(name)
        .ok_or_else(|| format!("{field}: there is no member {name}"))
}

fn order(environment: &Environment, map: &Map<String, Value>) -> Result<NewCommand, String> {
    let all = |verb| Ok(verbs::about_all(environment.id, &environment.name, verb));
    match text(map, "verb")? {
        "add" => new_member(map).map(|new| verbs::add(environment.id, &new)),
        "remove" => {
            let member = member(environment, map, "member")?;
            Ok(verbs::about_member(environment, member, REMOVE))
        }
        verb @ (BIND | UNBIND) => {
            let balancer = member(environment, map, "balancer")?;
            if balancer.kind != MemberKind::Balancer {
                return Err(format!("balancer: {} is a pool", balancer.name));
            }
            let member = member(environment, map, "member")?;
            Ok(verbs::bind(environment, balancer, member, verb))
        }
        "start" => all(START),
        "stop" => all(STOP),
        "suspend" => all(SUSPEND),
        "resume" => all(RESUME),
        other => Err(format!(
            "verb: {other:?} is none of add, remove, bind, unbind, start, stop, suspend and resume"
        )),
    }
}

/// Reads a member that is to be: `name`, `role`, `priority`, and `pool` or `balancer` with its settings.
///
/// # Errors
/// What is wrong with it, in words.
pub fn new_member(map: &Map<String, Value>) -> Result<NewMember, String> {
    let role = text(map, "role")?.to_owned();
    let (kind, settings) = match (map.get("pool"), map.get("balancer")) {
        (Some(Value::Object(pool)), None) => (MemberKind::Pool, pool.clone()),
        (None, Some(Value::Object(balancer))) => (MemberKind::Balancer, balancer.clone()),
        _ => {
            return Err(
                "give the settings of a pool in `pool`, or of a load balancer in `balancer`"
                    .to_owned(),
            );
        }
    };
    let priority = match map.get("priority") {
        None | Some(Value::Null) => default_priority(&role),
        Some(value) => value
            .as_u64()
            .and_then(|value| u32::try_from(value).ok())
            .ok_or("priority: give a number from 0")?,
    };
    Ok(NewMember {
        name: text(map, "name")?.to_owned(),
        role,
        priority,
        kind,
        settings,
        brought_by: None,
        replaces: None,
    })
}
