//! Environments: groups of pools and load balancers that form one application.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    component::Registry,
    peer::Tls,
    pool::{PoolKinds, PoolName, PoolSpec},
    project::{BalancerSpec, ObjectName, is_label},
    settings::{FieldError, Map, NOT_SET, Value, check_description, from_map},
};

/// What the names of the pools of environments begin with; the numbers of the environment and of the member follow.
const PREFIX: &str = "env-";
/// The longest word for a role.
pub const MAX_ROLE: usize = 32;

/// The pool of a member of an environment.
///
/// # Panics
/// Never: the name is short, and of letters and digits.
#[must_use]
pub fn pool_of_member(environment: u64, member: u32) -> PoolName {
    let name = format!("{PREFIX}{environment}-{member}").parse();
    name.expect("a short name of letters and digits")
}

/// Whether pools of this name are those of environments.
#[must_use]
pub fn is_pool_of_environment(name: &PoolName) -> bool {
    let numbers = name.as_str().strip_prefix(PREFIX);
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(environment, member)| is_number(environment) && is_number(member))
}

crate::choice! {
    /// What a handler hears of.
    pub enum EventKind = BeforeItIsAdded {
        /// A member is about to be added. A veto keeps it out.
        BeforeItIsAdded = "before_it_is_added",
        /// A member was added.
        AfterItIsAdded = "after_it_is_added",
        /// Another one than this member is about to be added. A veto keeps it out.
        BeforeOtherIsAdded = "before_other_is_added",
        /// Another one than this member was added.
        AfterOtherIsAdded = "after_other_is_added",
        /// The member is down.
        IsDown = "is_down",
        /// The member is up again.
        IsUp = "is_up",
        /// The environment was started.
        AfterStart = "after_start",
        /// The environment is about to be stopped, or destroyed. A veto keeps it.
        BeforeStop = "before_stop",
    }
}

crate::settings! {
    /// A handler of the operator: a program, or a web hook.
    pub struct HandlerSpec {
        /// Its name, unique in the environment.
        name: ObjectName;
        /// What it hears of.
        event: EventKind;
        /// Hears of members of this role only. Default: of all.
        role: Option<String> = None;
        /// Its place among the handlers of an event of a member: the lowest first. Those that are built in come before all.
        priority: u32 = 10, 1..=1_000;
        /// A program with its arguments. It gets the event as JSON on its standard input and writes its answer to its standard output.
        command: Vec<String> = Vec::new();
        /// A web hook: a URL with http or https. It gets the event as the body of a POST and answers with JSON.
        url: Option<String> = None;
        /// A file with the key that signs what is posted (HMAC-SHA256, the header X-LB-Signature).
        secret_file: Option<PathBuf> = None;
        /// TLS of a web hook with https. The name that its certificate must have is HOST unless it is set.
        tls: Option<Tls> = None;
        /// How long a call may take.
        timeout: Duration = Duration::from_secs(10), Duration::from_millis(100)..=Duration::from_secs(300);
    }
    validate(handler) {
        let handler: &HandlerSpec = handler;
        if let Some(role) = &handler.role {
            check_role(role)?;
        }
        match (&handler.url, handler.command.is_empty()) {
            (None, true) => Err(FieldError::new("command", NOT_SET, "give a program in `command`, or a web hook in `url`")),
            (Some(_), false) => Err(FieldError::new("url", "given", "give a program in `command`, or a web hook in `url`, not both")),
            (Some(url), true) if !url.starts_with("http://") && !url.starts_with("https://") => {
                Err(FieldError::new("url", url, "give http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"))
            }
            (Some(url), true) if handler.tls.is_some() && !url.starts_with("https://") => {
                Err(FieldError::new("tls", "given", "without https nothing is encrypted; leave it out, or give a `url` with https"))
            }
            (None, false) if handler.tls.is_some() => {
                Err(FieldError::new("tls", "given", "a program has no TLS; leave it out"))
            }
            (None, false) if handler.secret_file.is_some() => {
                Err(FieldError::new("secret_file", "given", "what a program gets is not signed; leave it out"))
            }
            _ => Ok(()),
        }
    }
}

crate::settings! {
    /// What can be set on an environment.
    pub struct EnvironmentSpec {
        /// Whether the second member of the role `web` brings a load balancer with it.
        brings_balancer: bool = true;
        /// The settings of load balancers that are brought. Their backends follow the members.
        balancer: Option<BalancerSpec> = None;
        /// How long a member that served has not served until it is down. Then a load balancer is replaced.
        down_after: Duration = Duration::from_secs(30), Duration::from_secs(1)..=Duration::from_secs(86_400);
        /// How long a load balancer that was replaced may stay away until it is deleted without having been back.
        collect_after: Duration = Duration::from_secs(3_600), Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
        /// How long an order about the environment may take; then it fails, and what it did is undone.
        patience: Duration = Duration::from_secs(600), Duration::from_secs(5)..=Duration::from_secs(86_400);
        /// The operator's own handlers, 32 at most.
        handlers: Vec<HandlerSpec> = Vec::new();
        /// Labels, for programs of the operator.
        labels: BTreeMap<String, String> = BTreeMap::new();
        /// Free text about the environment, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        let spec: &EnvironmentSpec = spec;
        check_description(spec.description.as_deref())?;
        if spec.handlers.len() > MAX_HANDLERS {
            let advice = format!("give {MAX_HANDLERS} at most");
            return Err(FieldError::new("handlers", spec.handlers.len(), advice));
        }
        for (position, handler) in spec.handlers.iter().enumerate() {
            if spec.handlers[..position].iter().any(|other| other.name == handler.name) {
                let error = FieldError::new("name", &handler.name, "it is given twice; give another name");
                return Err(error.within(format!("handlers[{position}]")));
            }
        }
        if let Some(balancer) = &spec.balancer && !balancer.backends.is_empty() {
            let advice = "the backends are the members; leave it out";
            return Err(FieldError::new("balancer.backends", "given", advice));
        }
        Ok(())
    }
}

/// Handlers of an environment at most.
const MAX_HANDLERS: usize = 32;

impl EnvironmentSpec {
    /// Reads and checks the settings; `probes` are the kinds of health checks.
    ///
    /// # Errors
    /// The first setting that is missing, unknown, has the wrong type, is out of range or contradicts another one.
    pub fn read(map: &Map<String, Value>, probes: &Registry) -> Result<Self, FieldError> {
        let mut spec = from_map::<EnvironmentSpec>(map)?;
        if let Some(balancer) = &mut spec.balancer {
            normalize(balancer, probes).map_err(|error| error.within("balancer"))?;
        }
        Ok(spec)
    }
}

crate::settings! {
    /// What can be set on a member of an environment.
    pub struct MemberSpec {
        /// What it is for: web, db, balancer, or another word of a-z, 0-9 and -. Handlers that are built in go by it.
        role: String;
        /// Members of lower priority start first, stop last, and hear of events first. Default: 10 for db, 30 for balancer, else 20.
        priority: Option<u32> = None, 0..=1_000;
        /// The pool that it is. docs/reference/pools.md describes its settings.
        pool: Option<PoolSpec> = None;
        /// The load balancer that it is. docs/reference/projects.md describes its settings; the backends are the members.
        balancer: Option<BalancerSpec> = None;
    }
    validate(member) {
        let member: &MemberSpec = member;
        check_role(&member.role)?;
        match (&member.pool, &member.balancer) {
            (Some(_), None) => Ok(()),
            (None, Some(balancer)) if balancer.backends.is_empty() => Ok(()),
            (None, Some(_)) => {
                Err(FieldError::new("balancer.backends", "given", "the backends are the members; leave it out"))
            }
            _ => Err(FieldError::new("pool", NOT_SET, "give the settings of a pool in `pool`, or of a load balancer in `balancer`")),
        }
    }
}

impl MemberSpec {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// The first setting that is missing, unknown, has the wrong type, is out of range or contradicts another one.
    pub fn read(map: &Map<String, Value>, kinds: &PoolKinds) -> Result<Self, FieldError> {
        let mut spec = from_map::<MemberSpec>(map)?;
        if let Some(pool) = &mut spec.pool {
            kinds
                .normalize(pool)
                .map_err(|error| error.within("pool"))?;
        }
        if let Some(balancer) = &mut spec.balancer {
            normalize(balancer, kinds.probes).map_err(|error| error.within("balancer"))?;
        }
        Ok(spec)
    }
}

fn normalize(balancer: &mut BalancerSpec, probes: &Registry) -> Result<(), FieldError> {
    if let Some(check) = &mut balancer.check {
        *check = probes
            .normalize(check)
            .map_err(|error| error.within("check"))?;
    }
    Ok(())
}

fn check_role(role: &str) -> Result<(), FieldError> {
    if is_label(role, MAX_ROLE) {
        return Ok(());
    }
    let advice = format!(
        "give 1 to {MAX_ROLE} of a-z, 0-9 and -, beginning with a letter and not ending with -"
    );
    Err(FieldError::new("role", format!("{role:?}"), advice))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static NONE: Registry = Registry {
        family: "probe",
        key: "kind",
        kinds: &[],
    };

    #[test]
    fn pools_of_members_have_names_of_their_own() {
        assert!(is_pool_of_environment(&pool_of_member(u64::MAX, u32::MAX)));
        for other in ["env", "env-1", "env-a-1", "env-1-b", "web-1-2"] {
            assert!(!is_pool_of_environment(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let handler = |more: Value| {
            let mut handler = json!({ "name": "a", "event": "is_down", "command": ["/bin/true"] });
            let (Value::Object(all), Value::Object(more)) = (&mut handler, more) else {
                panic!("objects");
            };
            all.extend(more);
            json!({ "handlers": [handler.clone(), handler] })
        };
        for (value, words) in [
            (handler(json!({})), "handlers[1].name"),
            (
                handler(json!({ "command": [] })),
                "handlers[0].command: not set",
            ),
            (handler(json!({ "url": "http://a/" })), "handlers[0].url"),
            (
                handler(json!({ "url": "ftp://a/", "command": [] })),
                "handlers[0].url",
            ),
            (
                handler(json!({ "secret_file": "/x" })),
                "handlers[0].secret_file",
            ),
            (handler(json!({ "event": "is_bored" })), "handlers[0].event"),
            (handler(json!({ "role": "A B" })), "handlers[0].role"),
            (
                json!({ "balancer": { "backends": [{ "address": "10.0.0.1" }] } }),
                "balancer.backends",
            ),
            (json!({ "down_after": "1ms" }), "down_after"),
            (json!({ "colour": 1 }), "colour"),
        ] {
            let map = value.as_object().unwrap();
            let error = EnvironmentSpec::read(map, &NONE).unwrap_err().to_string();
            assert!(error.contains(words), "{value}: {error}");
        }
        let kinds = PoolKinds {
            drivers: &NONE,
            probes: &NONE,
            readers: &NONE,
        };
        for (value, words) in [
            (json!({}), "role: not set"),
            (json!({ "role": "Web", "balancer": {} }), "role"),
            (json!({ "role": "web" }), "pool: not set"),
            (json!({ "role": "web", "pool": {} }), "pool.driver: not set"),
            (
                json!({ "role": "web", "balancer": { "nodes": 0 } }),
                "balancer.nodes",
            ),
        ] {
            let map = value.as_object().unwrap();
            let error = MemberSpec::read(map, &kinds).unwrap_err().to_string();
            assert!(error.contains(words), "{value}: {error}");
        }
        let map = json!({ "role": "web", "balancer": {} });
        assert!(MemberSpec::read(map.as_object().unwrap(), &kinds).is_ok());
    }
}
