//! Every verb of the API with the role that it needs: one table for gRPC, REST, the envelope and WebSockets. What is not in it
//! is refused.

use super::Role;

/// What a verb is about, and so where its role must be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Nothing that must be kept: no role is needed.
    Open,
    /// Whatever it says; who may do something somewhere may ask.
    Anywhere,
    /// The whole controller.
    Controller,
    /// The project that the call names.
    Project,
    /// A list, of a project that the call names or of all: it shows what the caller may see.
    Projects,
}

/// How a verb is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A method of the services of `lb.controller.v1`: `Controller/AddPool`.
    Grpc(&'static str),
    /// A method and a path, in which `{…}` stands for one segment.
    Http(&'static str, &'static str),
    /// An action and a type of the envelope.
    Envelope(&'static str, &'static str),
}

/// A verb.
#[derive(Debug)]
pub struct Verb {
    /// What it is called in the audit log.
    pub name: &'static str,
    /// The role that it needs.
    pub role: Role,
    /// Where the role must be held.
    pub on: On,
    /// How it is called.
    pub calls: &'static [Call],
    /// Whether it stands in the audit log: whatever changes something does, unless it comes every second.
    pub is_audited: bool,
}

const fn reads(name: &'static str, on: On, calls: &'static [Call]) -> Verb {
    Verb {
        name,
        role: Role::Read,
        on,
        calls,
        is_audited: false,
    }
}

const fn changes(name: &'static str, role: Role, on: On, calls: &'static [Call]) -> Verb {
    Verb {
        name,
        role,
        on,
        calls,
        is_audited: true,
    }
}

use Call::{Envelope, Grpc, Http};
use On::{Anywhere, Controller, Open, Project, Projects};

/// The verb that reads metrics, for which a setting can lift the need of a role.
pub const METRICS: &str = "metrics.read";
/// What a proxy has counted: a message of a WebSocket, too.
pub const REPORT: &str = "pool.report";
/// The order in an envelope that cannot be read: it is answered with what is wrong, and changes nothing.
pub const UNREADABLE: &str = "request.unreadable";

/// The verbs.
pub const VERBS: &[Verb] = &[
    reads("health", Open, &[Http("GET", "/healthz")]),
    reads("api.describe", Open, &[Http("GET", "/v1/openapi.json")]),
    reads(METRICS, Controller, &[Http("GET", "/metrics")]),
    reads(
        "pool.read",
        Controller,
        &[
            Grpc("Controller/ListPools"),
            Grpc("Controller/ExplainPool"),
            Grpc("Controller/WatchPools"),
            Grpc("Controller/GetLogs"),
            Http("GET", "/v1/pools"),
            Http("GET", "/v1/pools/{pool}"),
            Http("GET", "/v1/pools/{pool}/settings"),
            Http("GET", "/v1/pools/{pool}/instances"),
            Http("GET", "/v1/pools/{pool}/why"),
            Http("GET", "/v1/pools/{pool}/events"),
            Http("GET", "/v1/pools/{pool}/stream"),
            Http("GET", "/v1/instances/{instance}/logs"),
        ],
    ),
    changes(
        "pool.add",
        Role::Operate,
        Controller,
        &[Grpc("Controller/AddPool"), Http("POST", "/v1/pools")],
    ),
    changes(
        "pool.update",
        Role::Operate,
        Controller,
        &[
            Grpc("Controller/UpdatePool"),
            Http("PATCH", "/v1/pools/{pool}"),
            Http("PUT", "/v1/pools/{pool}/settings"),
        ],
    ),
    changes(
        "pool.delete",
        Role::Operate,
        Controller,
        &[
            Grpc("Controller/DeletePool"),
            Http("DELETE", "/v1/pools/{pool}"),
        ],
    ),
    changes(
        "instance.operate",
        Role::Operate,
        Controller,
        &[
            Grpc("Controller/OperateInstance"),
            Http("POST", "/v1/instances/{instance}/operate"),
        ],
    ),
    Verb {
        is_audited: false,
        ..changes(
            REPORT,
            Role::Operate,
            Controller,
            &[
                Grpc("Controller/ReportDemand"),
                Http("POST", "/v1/pools/{pool}/demand"),
            ],
        )
    },
    // It has what is stored of passwords.
    changes(
        "store.backup",
        Role::Admin,
        Controller,
        &[Grpc("Controller/Backup")],
    ),
    reads(
        "project.list",
        Projects,
        &[
            Grpc("Controller/ListProjects"),
            Http("GET", "/v1/projects"),
            Envelope("info", "project"),
        ],
    ),
    reads(
        "project.read",
        Project,
        &[Http("GET", "/v1/projects/{project}")],
    ),
    changes(
        "project.create",
        Role::Admin,
        Controller,
        &[
            Grpc("Controller/CreateProject"),
            Http("POST", "/v1/projects"),
            Envelope("create", "project"),
        ],
    ),
    // Quotas are the operator's: nobody raises its own.
    changes(
        "project.update",
        Role::Admin,
        Controller,
        &[
            Grpc("Controller/UpdateProject"),
            Http("PATCH", "/v1/projects/{project}"),
            Http("PUT", "/v1/projects/{project}"),
            Envelope("update", "project"),
        ],
    ),
    changes(
        "project.delete",
        Role::Admin,
        Controller,
        &[
            Grpc("Controller/DeleteProject"),
            Http("DELETE", "/v1/projects/{project}"),
            Envelope("delete", "project"),
        ],
    ),
    reads(
        "balancer.list",
        Projects,
        &[
            Grpc("Controller/ListBalancers"),
            Http("GET", "/v1/balancers"),
            Http("GET", "/v1/projects/{project}/balancers"),
            Envelope("info", "instance"),
        ],
    ),
    reads(
        "balancer.read",
        Project,
        &[Http("GET", "/v1/projects/{project}/balancers/{balancer}")],
    ),
    // Of a load balancer with its project, or else of what is the controller's.
    reads(
        "history.read",
        Project,
        &[
            Grpc("History/GetHistory"),
            Http("GET", "/v1/history/{name}"),
            Http("GET", "/v1/projects/{project}/balancers/{balancer}/history"),
        ],
    ),
    changes(
        "balancer.create",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/CreateBalancer"),
            Http("POST", "/v1/projects/{project}/balancers"),
            Envelope("create", "instance"),
        ],
    ),
    changes(
        "balancer.update",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/UpdateBalancer"),
            Http("PATCH", "/v1/projects/{project}/balancers/{balancer}"),
            Http("PUT", "/v1/projects/{project}/balancers/{balancer}"),
            Envelope("update", "instance"),
        ],
    ),
    changes(
        "balancer.delete",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/DeleteBalancer"),
            Http("DELETE", "/v1/projects/{project}/balancers/{balancer}"),
            Envelope("delete", "instance"),
        ],
    ),
    reads(
        "host.read",
        Controller,
        &[
            Grpc("Controller/ListHosts"),
            Http("GET", "/v1/hosts"),
            Http("GET", "/v1/hosts/{host}"),
        ],
    ),
    reads(
        "orphan.read",
        Controller,
        &[Grpc("Controller/ListOrphans"), Http("GET", "/v1/orphans")],
    ),
    changes(
        "host.update",
        Role::Operate,
        Controller,
        &[
            Grpc("Controller/UpdateHost"),
            Http("PATCH", "/v1/hosts/{host}"),
        ],
    ),
    changes(
        "host.remove",
        Role::Admin,
        Controller,
        &[
            Grpc("Controller/RemoveHost"),
            Http("DELETE", "/v1/hosts/{host}"),
        ],
    ),
    // Whoever has it becomes a part of the controller.
    changes(
        "host.token",
        Role::Admin,
        Controller,
        &[
            Grpc("Controller/CreateHostToken"),
            Http("POST", "/v1/host-tokens"),
        ],
    ),
    reads(
        "subnet.list",
        Projects,
        &[
            Grpc("Controller/ListSubnets"),
            Http("GET", "/v1/subnets"),
            Http("GET", "/v1/projects/{project}/subnets"),
            Envelope("info", "subnet"),
        ],
    ),
    reads(
        "subnet.read",
        Project,
        &[Http("GET", "/v1/projects/{project}/subnets/{subnet}")],
    ),
    changes(
        "subnet.create",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/CreateSubnet"),
            Http("POST", "/v1/projects/{project}/subnets"),
            Envelope("create", "subnet"),
        ],
    ),
    changes(
        "subnet.update",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/UpdateSubnet"),
            Http("PATCH", "/v1/projects/{project}/subnets/{subnet}"),
            Http("PUT", "/v1/projects/{project}/subnets/{subnet}"),
            Envelope("update", "subnet"),
        ],
    ),
    changes(
        "subnet.delete",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/DeleteSubnet"),
            Http("DELETE", "/v1/projects/{project}/subnets/{subnet}"),
            Envelope("delete", "subnet"),
        ],
    ),
    reads(
        "environment.list",
        Projects,
        &[
            Grpc("Controller/ListEnvironments"),
            Http("GET", "/v1/environments"),
            Http("GET", "/v1/projects/{project}/environments"),
        ],
    ),
    reads(
        "environment.read",
        Project,
        &[
            Http("GET", "/v1/projects/{project}/environments/{environment}"),
            Http(
                "GET",
                "/v1/projects/{project}/environments/{environment}/members",
            ),
            Http(
                "GET",
                "/v1/projects/{project}/environments/{environment}/members/{member}",
            ),
        ],
    ),
    changes(
        "environment.create",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/CreateEnvironment"),
            Http("POST", "/v1/projects/{project}/environments"),
        ],
    ),
    changes(
        "environment.update",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/UpdateEnvironment"),
            Http("PATCH", "/v1/projects/{project}/environments/{environment}"),
        ],
    ),
    // Of a member that is a pool the order itself asks for more: see `Environments::add`.
    changes(
        "environment.add",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/AddMember"),
            Http(
                "POST",
                "/v1/projects/{project}/environments/{environment}/members",
            ),
        ],
    ),
    changes(
        "environment.remove",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/RemoveMember"),
            Http(
                "DELETE",
                "/v1/projects/{project}/environments/{environment}/members/{member}",
            ),
        ],
    ),
    // Start, stop, suspend, resume, destroy; clone asks for more, as `environment.add` does.
    changes(
        "environment.order",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/OrderEnvironment"),
            Grpc("Controller/CloneEnvironment"),
            Http(
                "POST",
                "/v1/projects/{project}/environments/{environment}/{verb}",
            ),
            Http(
                "DELETE",
                "/v1/projects/{project}/environments/{environment}",
            ),
        ],
    ),
    reads(
        "command.list",
        Projects,
        &[
            Grpc("Controller/ListCommands"),
            Grpc("Controller/WatchCommands"),
            Http("GET", "/v1/commands"),
        ],
    ),
    reads(
        "command.read",
        Project,
        &[Http("GET", "/v1/commands/{command}")],
    ),
    changes(
        "command.cancel",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/CancelCommand"),
            Http("POST", "/v1/commands/{command}/cancel"),
        ],
    ),
    changes(
        "command.retry",
        Role::Operate,
        Project,
        &[
            Grpc("Controller/RetryCommand"),
            Http("POST", "/v1/commands/{command}/retry"),
        ],
    ),
    // The order in it is looked up by its action and type.
    reads(
        UNREADABLE,
        Anywhere,
        &[Http("GET", "/v1/requests"), Http("POST", "/v1/requests")],
    ),
    Verb {
        is_audited: false,
        ..changes(
            "user.list",
            Role::Admin,
            Controller,
            &[Grpc("Access/ListUsers"), Http("GET", "/v1/users")],
        )
    },
    changes(
        "user.add",
        Role::Admin,
        Controller,
        &[Grpc("Access/AddUser"), Http("POST", "/v1/users")],
    ),
    changes(
        "user.password",
        Role::Admin,
        Controller,
        &[
            Grpc("Access/SetPassword"),
            Http("PUT", "/v1/users/{user}/password"),
        ],
    ),
    changes(
        "user.remove",
        Role::Admin,
        Controller,
        &[
            Grpc("Access/RemoveUser"),
            Http("DELETE", "/v1/users/{user}"),
        ],
    ),
    Verb {
        is_audited: false,
        ..changes(
            "token.list",
            Role::Admin,
            Projects,
            &[Grpc("Access/ListTokens"), Http("GET", "/v1/tokens")],
        )
    },
    changes(
        "token.add",
        Role::Admin,
        Project,
        &[Grpc("Access/AddToken"), Http("POST", "/v1/tokens")],
    ),
    changes(
        "token.remove",
        Role::Admin,
        Project,
        &[
            Grpc("Access/RemoveToken"),
            Http("DELETE", "/v1/tokens/{token}"),
        ],
    ),
    Verb {
        is_audited: false,
        ..changes(
            "audit.read",
            Role::Admin,
            Projects,
            &[Grpc("Access/ListAudit"), Http("GET", "/v1/audit")],
        )
    },
];

/// The verb of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// The verb of a method of gRPC: `Controller/AddPool`.
#[must_use]
pub fn of_grpc(method: &str) -> Option<&'static Verb> {
    let is_it = |call: &Call| matches!(call, Grpc(name) if *name == method);
    VERBS.iter().find(|verb| verb.calls.iter().any(is_it))
}

/// The verb of an order in an envelope.
#[must_use]
pub fn of_envelope(action: &str, kind: &str) -> Option<&'static Verb> {
    let is_it =
        |call: &Call| matches!(call, Envelope(one, other) if *one == action && *other == kind);
    VERBS.iter().find(|verb| verb.calls.iter().any(is_it))
}

/// What is known of a request's method and path.
#[derive(Debug)]
pub enum Route<'a> {
    /// A verb, with what its path names: `project`, `shop`.
    Verb(&'static Verb, Vec<(&'static str, &'a str)>),
    /// The path is there, and takes these methods.
    Methods(Vec<&'static str>),
    /// There is no such path.
    Nothing,
}

/// The verb of a request over HTTP.
#[must_use]
pub fn of_http<'a>(method: &str, path: &'a str) -> Route<'a> {
    let mut methods = Vec::new();
    for verb in VERBS {
        for call in verb.calls {
            let Http(one, pattern) = call else { continue };
            let Some(names) = matches(pattern, path) else {
                continue;
            };
            if *one == method {
                return Route::Verb(verb, names);
            }
            methods.push(*one);
        }
    }
    if methods.is_empty() {
        Route::Nothing
    } else {
        Route::Methods(methods)
    }
}

/// What a path has in the places of a pattern, if it fits. As the server takes it, slashes at both ends do not count.
fn matches<'a>(pattern: &'static str, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    let mut names = Vec::new();
    let mut expected = pattern.trim_matches('/').split('/');
    let mut found = path.trim_matches('/').split('/');
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return Some(names),
            (Some(expected), Some(found)) => {
                let place = expected
                    .strip_prefix('{')
                    .and_then(|one| one.strip_suffix('}'));
                match place {
                    Some(name) => names.push((name, found)),
                    None if expected == found => {}
                    None => return None,
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_method_of_grpc_is_one_verb_and_every_verb_is_there() {
        let pool = DescriptorPool::decode(lb_proto::DESCRIPTORS).unwrap();
        let services = pool
            .services()
            .filter(|service| service.parent_file().package_name() == "lb.controller.v1");
        let methods: BTreeSet<String> = services
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| format!("{}/{}", method.parent_service().name(), method.name()))
            .collect();
        let named: Vec<String> = VERBS
            .iter()
            .flat_map(|verb| verb.calls)
            .filter_map(|call| match call {
                Grpc(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(
            named.iter().cloned().collect::<BTreeSet<_>>(),
            methods,
            "name each method once in VERBS, with the role that it needs"
        );
        assert_eq!(named.len(), methods.len());
    }

    #[test]
    fn every_path_of_http_is_one_verb_and_every_verb_is_described() {
        let described: BTreeSet<(String, String)> = crate::http::paths()
            .map(|(method, path)| (method.to_uppercase(), path.to_owned()))
            .collect();
        let named: Vec<(String, String)> = VERBS
            .iter()
            .flat_map(|verb| verb.calls)
            .filter_map(|call| match call {
                Http(method, path) => Some(((*method).to_owned(), (*path).to_owned())),
                _ => None,
            })
            .collect();
        assert_eq!(
            named.iter().cloned().collect::<BTreeSet<_>>(),
            described,
            "name each path in VERBS, with the role that it needs, and describe it in openapi.rs"
        );
        assert_eq!(named.len(), described.len());
    }

    #[test]
    fn names_are_unique_and_what_needs_more_than_reading_is_told_apart() {
        let names: BTreeSet<&str> = VERBS.iter().map(|verb| verb.name).collect();
        assert_eq!(names.len(), VERBS.len());
        for verb in VERBS {
            assert!(verb.is_audited <= (verb.role > Role::Read), "{}", verb.name);
            assert!(verb.on != Open || verb.role == Role::Read, "{}", verb.name);
            for call in verb.calls {
                if let Http(method, _) = call {
                    let is_change = *method != "GET" && verb.name != UNREADABLE;
                    assert_eq!(
                        is_change,
                        verb.role > Role::Read && *method != "GET",
                        "{call:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn paths_are_found_with_what_they_name() {
        let name = |method, path| match of_http(method, path) {
            Route::Verb(verb, names) => Some((verb.name, names)),
            _ => None,
        };
        assert_eq!(
            name("PATCH", "/v1/projects/shop/balancers/web"),
            Some((
                "balancer.update",
                vec![("project", "shop"), ("balancer", "web")]
            ))
        );
        // As the server reads paths.
        assert_eq!(name("GET", "//v1/pools/").unwrap().0, "pool.read");
        assert_eq!(name("GET", "/v1//pools"), None);
        assert!(
            matches!(of_http("DELETE", "/v1/pools"), Route::Methods(list) if list == ["GET", "POST"])
        );
        assert!(matches!(of_http("GET", "/v2/pools"), Route::Nothing));
        assert_eq!(of_grpc("Controller/AddPool").unwrap().name, "pool.add");
        assert!(of_grpc("Controller/NoSuch").is_none());
        assert_eq!(
            of_envelope("delete", "instance").unwrap().name,
            "balancer.delete"
        );
        assert!(of_envelope("delete", "router").is_none());
    }
}
