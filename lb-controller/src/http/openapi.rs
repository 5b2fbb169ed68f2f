//! The description of the HTTP API (OpenAPI 3.1), from the same definitions.

use lb_proto::controller::v1;
use serde_json::{Map, Value, json};

use super::json::{descriptor, schema};

/// A path, what it answers, and what each method does.
type Path = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const PATHS: &[Path] = &[
    (
        "/v1/pools",
        "ListPoolsResponse",
        &[
            ("get", "All pools"),
            ("post", "Add a pool: name and settings"),
        ],
    ),
    (
        "/v1/pools/{pool}",
        "Pool",
        &[
            ("get", "A pool with its instances"),
            (
                "patch",
                "Change settings (RFC 7396); with If-Match only those that were read",
            ),
            (
                "delete",
                "Delete a pool: its instances are stopped and removed",
            ),
        ],
    ),
    (
        "/v1/pools/{pool}/settings",
        "",
        &[
            ("get", "The settings of a pool"),
            ("put", "Replace the settings of a pool"),
        ],
    ),
    (
        "/v1/pools/{pool}/instances",
        "Instance",
        &[("get", "The instances of a pool")],
    ),
    (
        "/v1/pools/{pool}/why",
        "Decision",
        &[("get", "The last decision, with its inputs")],
    ),
    (
        "/v1/pools/{pool}/events",
        "Event",
        &[("get", "Events, since a revision if `since` is given")],
    ),
    (
        "/v1/pools/{pool}/demand",
        "",
        &[("post", "What a proxy has counted")],
    ),
    (
        "/v1/pools/{pool}/stream",
        "",
        &[(
            "get",
            "WebSocket: a snapshot, then changes; `since` resumes",
        )],
    ),
    (
        "/v1/instances/{instance}/logs",
        "",
        &[("get", "The end of what an instance has printed")],
    ),
    (
        "/v1/instances/{instance}/operate",
        "OperateInstanceResponse",
        &[(
            "post",
            "Do something with an instance: `operation` is pause, suspend, resume, reboot, clone or move, which needs a `host`",
        )],
    ),
    (
        "/v1/projects",
        "ListProjectsResponse",
        &[
            ("get", "All projects"),
            ("post", "Create a project: name and settings"),
        ],
    ),
    (
        "/v1/projects/{project}",
        "Project",
        &[
            ("get", "A project"),
            ("patch", "Change settings (RFC 7396)"),
            ("put", "Replace the settings"),
            (
                "delete",
                "Delete a project; with `everything=1` all that is in it, too",
            ),
        ],
    ),
    (
        "/v1/balancers",
        "ListBalancersResponse",
        &[("get", "The load balancers of all projects")],
    ),
    (
        "/v1/projects/{project}/balancers",
        "ListBalancersResponse",
        &[
            ("get", "The load balancers of a project"),
            ("post", "Create a load balancer: name and settings"),
        ],
    ),
    (
        "/v1/projects/{project}/balancers/{balancer}",
        "Balancer",
        &[
            ("get", "A load balancer"),
            ("patch", "Change settings (RFC 7396)"),
            ("put", "Replace the settings"),
            ("delete", "Delete a load balancer and its nodes"),
        ],
    ),
    ("/v1/hosts", "ListHostsResponse", &[("get", "All hosts")]),
    (
        "/v1/orphans",
        "ListOrphansResponse",
        &[("get", "What nothing refers to any more")],
    ),
    (
        "/v1/hosts/{host}",
        "Host",
        &[
            ("get", "A host"),
            (
                "patch",
                "Say what it is to do: `duty` is up, cordoned or draining",
            ),
            (
                "delete",
                "Remove a host; with `force=1` also one that has instances and is not connected",
            ),
        ],
    ),
    (
        "/v1/host-tokens",
        "HostToken",
        &[(
            "post",
            "Make a token by which a machine becomes a host: `name` and `lifetime` may be given",
        )],
    ),
    (
        "/v1/environments",
        "ListEnvironmentsResponse",
        &[("get", "The environments of all projects")],
    ),
    (
        "/v1/projects/{project}/environments",
        "ListEnvironmentsResponse",
        &[
            ("get", "The environments of a project"),
            ("post", "Create an environment: name, settings and request"),
        ],
    ),
    (
        "/v1/projects/{project}/environments/{environment}",
        "Environment",
        &[
            ("get", "An environment with its members"),
            ("patch", "Change settings (RFC 7396)"),
            ("delete", "Destroy an environment with its members"),
        ],
    ),
    (
        "/v1/projects/{project}/environments/{environment}/members",
        "Ordered",
        &[
            ("get", "The members of an environment"),
            ("post", "Add a member: name, settings and request"),
        ],
    ),
    (
        "/v1/projects/{project}/environments/{environment}/members/{member}",
        "Ordered",
        &[("get", "A member"), ("delete", "Remove a member")],
    ),
    (
        "/v1/projects/{project}/environments/{environment}/{verb}",
        "Ordered",
        &[(
            "post",
            "start, stop, suspend, resume or destroy; clone with name and settings",
        )],
    ),
    (
        "/v1/commands",
        "ListCommandsResponse",
        &[(
            "get",
            "The newest commands; with `open=1` those that have not ended",
        )],
    ),
    (
        "/v1/commands/{command}",
        "ListCommandsResponse",
        &[("get", "A command with all that it has waited for")],
    ),
    (
        "/v1/commands/{command}/cancel",
        "Command",
        &[("post", "Cancel a command and all that it waits for")],
    ),
    (
        "/v1/commands/{command}/retry",
        "Command",
        &[("post", "Try a command again")],
    ),
    (
        "/v1/subnets",
        "ListSubnetsResponse",
        &[("get", "The subnets of all projects")],
    ),
    (
        "/v1/projects/{project}/subnets",
        "ListSubnetsResponse",
        &[
            ("get", "The subnets of a project"),
            ("post", "Create a subnet: name and settings"),
        ],
    ),
    (
        "/v1/projects/{project}/subnets/{subnet}",
        "Subnet",
        &[
            ("get", "A subnet"),
            ("patch", "Change settings (RFC 7396)"),
            ("put", "Replace the settings"),
            (
                "delete",
                "Delete a subnet; with `everything=1` the load balancers in it, too",
            ),
        ],
    ),
    (
        "/v1/projects/{project}/balancers/{balancer}/history",
        "",
        &[(
            "get",
            "What a load balancer carried: `from`, `to` and `step` in seconds, `format=csv`",
        )],
    ),
    (
        "/v1/history/{name}",
        "",
        &[("get", "The same of a pool or an instance")],
    ),
    (
        "/v1/requests",
        "",
        &[
            ("get", "An order in an envelope, as the body"),
            ("post", "The same"),
        ],
    ),
    (
        "/v1/users",
        "ListUsersResponse",
        &[
            ("get", "All users"),
            ("post", "Add a user: name, password and roles"),
        ],
    ),
    (
        "/v1/users/{user}/password",
        "User",
        &[("put", "Give a user another password: password")],
    ),
    ("/v1/users/{user}", "User", &[("delete", "Remove a user")]),
    (
        "/v1/tokens",
        "ListTokensResponse",
        &[
            ("get", "Tokens; with `project=NAME` those of a project"),
            (
                "post",
                "Make a token, with `project=NAME` for a project: role, description and life (seconds)",
            ),
        ],
    ),
    (
        "/v1/tokens/{token}",
        "Token",
        &[("delete", "Remove a token")],
    ),
    (
        "/v1/audit",
        "ListAuditResponse",
        &[(
            "get",
            "Who changed what, the newest first: `since` (seconds since 1970), `project` and `most`",
        )],
    ),
    ("/v1/openapi.json", "", &[("get", "This description")]),
    (
        "/metrics",
        "",
        &[("get", "Metrics: OpenMetrics, or Prometheus' text")],
    ),
    (
        "/healthz",
        "",
        &[("get", "Answers while the controller runs")],
    ),
];

/// Every method and path.
#[cfg(test)]
pub fn paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |(path, _, methods): &'static Path| methods.iter().map(|(method, _)| (*method, *path));
    PATHS.iter().flat_map(of)
}

/// The description.
pub fn document() -> Value {
    let mut schemas = Map::new();
    for descriptor in [
        descriptor::<v1::ListPoolsResponse>(),
        descriptor::<v1::Decision>(),
        descriptor::<v1::Event>(),
        descriptor::<v1::ListHostsResponse>(),
        descriptor::<v1::ListOrphansResponse>(),
        descriptor::<v1::OperateInstanceResponse>(),
        descriptor::<v1::HostToken>(),
        descriptor::<v1::ListProjectsResponse>(),
        descriptor::<v1::ListBalancersResponse>(),
        descriptor::<v1::ListEnvironmentsResponse>(),
        descriptor::<v1::Ordered>(),
        descriptor::<v1::ListCommandsResponse>(),
        descriptor::<v1::ListSubnetsResponse>(),
        descriptor::<v1::ListUsersResponse>(),
        descriptor::<v1::ListTokensResponse>(),
        descriptor::<v1::ListAuditResponse>(),
    ]
    .into_iter()
    .flatten()
    {
        schema(&descriptor, &mut schemas);
    }
    let mut paths = Map::new();
    for (path, answer, methods) in PATHS.iter().copied() {
        let mut operations = Map::new();
        let named = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<Value> = named
            .map(|name| {
                json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
            })
            .collect();
        if !parameters.is_empty() {
            operations.insert("parameters".to_owned(), parameters.into());
        }
        for (method, summary) in methods {
            let content = if answer.is_empty() {
                json!({})
            } else {
                let schema = json!({ "$ref": format!("#/components/schemas/{answer}") });
                json!({ "application/json": { "schema": schema } })
            };
            operations.insert(
                (*method).to_owned(),
                json!({
                    "summary": summary,
                    "responses": { "200": { "description": summary, "content": content } },
                }),
            );
        }
        paths.insert(path.to_owned(), Value::Object(operations));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "lb-controller", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_is_named_is_described() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
