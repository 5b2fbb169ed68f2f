//! `lbctl http`: the HTTP tier, by its administration's address.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use http::StatusCode;
use lb_clients::peer::{
    Deadline,
    http_endpoint::{HttpAddress, HttpEndpoint},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::Status;

use super::Context;
use crate::{
    failure::Failure,
    output::{
        Human, Output,
        http::{InstanceList, Purged, Reasons, Seen, ServiceList},
    },
    values::setting::{self, Setting},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read: thousands of instances.
const LONGEST: usize = 64 << 20;

/// What to do, and with which proxy.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The proxy's `admin` address
    #[arg(
        long,
        global = true,
        env = "LB_PROXY",
        value_name = "ADDRESS:PORT|unix:PATH",
        default_value = "127.0.0.1:9470"
    )]
    proxy: HttpAddress,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show services and routes
    List,
    /// Show what each instance does
    Stats {
        /// Only this service
        service: Option<String>,
    },
    /// Show why an instance, or each one, gets the requests that it gets
    Why {
        /// The service
        service: String,
        /// Only this instance
        instance: Option<SocketAddr>,
    },
    /// Add a service to the proxy's configuration file, and serve it
    Add(Add),
    /// Remove a service that no route and no listener names
    Del {
        /// The service
        service: String,
    },
    /// Send requests for a host and a path to a service, in the proxy's configuration file too
    Route {
        #[command(flatten)]
        requests: HostAndPath,
        /// The service
        service: String,
        /// Further settings: set_request_headers.X-Tenant=a; docs/reference/proxy.md describes them
        #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
        settings: Vec<Setting>,
    },
    /// Remove the route for a host and a path
    Unroute {
        #[command(flatten)]
        requests: HostAndPath,
    },
    /// Have the proxy read its configuration file and its certificates again, as SIGHUP does
    Reload,
    /// Remove answers from a service's cache: all, unless one or a prefix is named
    Purge {
        /// The service
        service: String,
        /// The URI of one answer, such as `http://www.example.com/logo.png`
        #[arg(long, value_name = "URI", conflicts_with = "prefix")]
        key: Option<String>,
        /// What the URIs begin with
        #[arg(long, value_name = "URI")]
        prefix: Option<String>,
    },
}

/// A service to add.
#[derive(Args, Debug)]
struct Add {
    /// Name of the service
    service: String,
    /// An instance, or a name with all its addresses; may be repeated
    #[arg(long = "member", value_name = "ADDRESS:PORT|NAME:PORT")]
    members: Vec<String>,
    /// File with its settings, in TOML
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Settings, which count more than those of the file: choice=round-robin, pool=ws://…, cache.items=1000; docs/reference/proxy.md
    /// describes them
    #[arg(value_name = "SETTING=VALUE", value_parser = setting::read)]
    settings: Vec<Setting>,
}

/// Which requests a route is for.
#[derive(Args, Debug)]
struct HostAndPath {
    /// The host, such as www.example.com or *.example.com; without it every host
    #[arg(long)]
    host: Option<String>,
    /// What the path begins with
    #[arg(long, default_value = "/")]
    path: String,
}

impl Add {
    /// The change that the proxy is asked for.
    fn change(self) -> Result<Value, Failure> {
        let mut settings = setting::collect(self.file.as_ref(), self.settings)?;
        settings.insert("name".to_owned(), self.service.into());
        if !self.members.is_empty() {
            let member = |address: String| json!({ "address": address });
            let members: Vec<Value> = self.members.into_iter().map(member).collect();
            settings.insert("member".to_owned(), members.into());
        }
        Ok(json!({ "add-service": settings }))
    }
}

/// The change that sends requests to a service.
fn route(requests: HostAndPath, service: String, settings: Vec<Setting>) -> Result<Value, Failure> {
    let mut settings = setting::collect(None, settings)?;
    if let Some(host) = requests.host {
        settings.insert("host".to_owned(), host.into());
    }
    settings.insert("path".to_owned(), requests.path.into());
    settings.insert("service".to_owned(), service.into());
    Ok(json!({ "set-route": settings }))
}

/// Asks the proxy, and prints its answer.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let proxy = Proxy(arguments.proxy);
    let output = context.output;
    match arguments.verb {
        Verb::List => output.print(&ServiceList(proxy.seen().await?)),
        Verb::Stats { service } => {
            let seen = proxy.seen_of(service.as_deref()).await?;
            output.print(&InstanceList(seen.services))
        }
        Verb::Why { service, instance } => why(&proxy, output, &service, instance).await,
        Verb::Add(add) => {
            let attempt = format!("add service {}", add.service);
            proxy.change(output, &add.change()?, &attempt).await
        }
        Verb::Del { service } => {
            let attempt = format!("remove service {service}");
            let change = json!({ "remove-service": service });
            proxy.change(output, &change, &attempt).await
        }
        Verb::Route {
            requests,
            service,
            settings,
        } => {
            let attempt = format!("send requests to service {service}");
            let change = route(requests, service, settings)?;
            proxy.change(output, &change, &attempt).await
        }
        Verb::Unroute { requests } => {
            let change =
                json!({ "remove-route": { "host": requests.host, "path": requests.path } });
            proxy.change(output, &change, "remove the route").await
        }
        Verb::Reload => {
            let attempt = "have the configuration read again";
            let _: Value = proxy.ask(Some(&Value::Null), "/v1/reload", attempt).await?;
            output.print(&ServiceList(proxy.seen().await?))
        }
        Verb::Purge {
            service,
            key,
            prefix,
        } => {
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let mut path = format!("/v1/purge?service={}", encoded(&service));
            for (field, value) in [("key", key), ("prefix", prefix)] {
                if let Some(value) = value {
                    path += &format!("&{field}={}", encoded(&value));
                }
            }
            let attempt = format!("purge the cache of service {service}");
            let purged: Purged = proxy.ask(Some(&Value::Null), &path, &attempt).await?;
            output.print(&purged)
        }
    }
}

async fn why(
    proxy: &Proxy,
    output: Output,
    service: &str,
    instance: Option<SocketAddr>,
) -> Result<(), Failure> {
    let seen = proxy.seen_of(Some(service)).await?;
    let mut reasons: Vec<Reasons> = seen.services.iter().flat_map(Reasons::of).collect();
    if let Some(wanted) = instance {
        let wanted = wanted.to_string();
        reasons.retain(|one| one.instance == wanted);
        if reasons.is_empty() {
            return Err(Failure::NotYet(format!(
                "service {service} has no instance {wanted}; `lbctl http stats {service}` lists them"
            )));
        }
    }
    output.print(&reasons)
}

/// The administration of a proxy.
struct Proxy(HttpAddress);

impl Proxy {
    async fn seen(&self) -> Result<Seen, Failure> {
        self.ask(None, "/v1/services", "read what the proxy serves")
            .await
    }

    /// Has the proxy's configuration changed, and shows what it serves then.
    async fn change(&self, output: Output, change: &Value, attempt: &str) -> Result<(), Failure> {
        let _: Value = self.ask(Some(change), "/v1/change", attempt).await?;
        output.print(&ServiceList(self.seen().await?))
    }

    /// What the proxy serves, or one service of it.
    async fn seen_of(&self, service: Option<&str>) -> Result<Seen, Failure> {
        let mut seen = self.seen().await?;
        if let Some(name) = service {
            seen.services.retain(|service| service.name == name);
            if seen.services.is_empty() {
                return Err(Failure::NotYet(format!(
                    "the proxy at {} has no service {name}; `lbctl http list` lists them",
                    self.0
                )));
            }
        }
        Ok(seen)
    }

    /// Asks for a page, or posts a body.
    async fn ask<T: DeserializeOwned>(
        &self,
        body: Option<&Value>,
        path: &str,
        attempt: &str,
    ) -> Result<T, Failure> {
        let mut endpoint = HttpEndpoint::at(self.0.clone());
        let deadline = Deadline::after(PATIENCE);
        let answer = match body {
            Some(body) => endpoint.post(path, body, LONGEST, &deadline).await,
            None => endpoint.get(path, LONGEST, &deadline).await,
        };
        let refused = |reason: String| Failure::refused(attempt)(Status::unavailable(reason));
        let answer = answer.map_err(|reason| {
            refused(format!(
                "{reason}\n  is this the `admin` address of a running lb-proxy? `--proxy` or LB_PROXY names another"
            ))
        })?;
        let status = answer.status;
        let body = answer.whole().map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8_lossy(&body);
        if status == StatusCode::BAD_REQUEST {
            return Err(Failure::refused(attempt)(Status::invalid_argument(
                text.trim(),
            )));
        }
        if !status.is_success() {
            return Err(refused(format!("{status}: {}", text.trim())));
        }
        serde_json::from_slice(&body).map_err(|error| {
            refused(format!(
                "{} does not answer as lb-proxy does: {error}",
                self.0
            ))
        })
    }
}

impl Human for Vec<Reasons> {
    fn human(&self) -> String {
        self.iter().map(Human::human).collect::<Vec<_>>().join("\n")
    }
}
