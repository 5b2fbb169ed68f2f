//! `lbctl http`: the HTTP tier, by its administration's address.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};
use lb_clients::peer::{Deadline, http_endpoint::HttpEndpoint};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tonic::Status;

use super::Context;
use crate::{
    failure::Failure,
    output::{
        Human, Output,
        http::{InstanceList, Purged, Reasons, Seen, ServiceList},
    },
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
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9470"
    )]
    proxy: SocketAddr,
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
            let purged: Purged = proxy.ask(true, &path, &attempt).await?;
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
struct Proxy(SocketAddr);

impl Proxy {
    async fn seen(&self) -> Result<Seen, Failure> {
        self.ask(false, "/v1/services", "read what the proxy serves")
            .await
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

    async fn ask<T: DeserializeOwned>(
        &self,
        is_change: bool,
        path: &str,
        attempt: &str,
    ) -> Result<T, Failure> {
        let mut endpoint = HttpEndpoint::new(self.0, None, None);
        let deadline = Deadline::after(PATIENCE);
        let answer = if is_change {
            let nothing = serde_json::Value::Null;
            endpoint.post(path, &nothing, LONGEST, &deadline).await
        } else {
            endpoint.get(path, LONGEST, &deadline).await
        };
        let refused = |reason: String| Failure::refused(attempt)(Status::unavailable(reason));
        let answer = answer.map_err(|reason| {
            refused(format!(
                "{reason}\n  is this the `admin` address of a running lb-proxy? `--proxy` or LB_PROXY names another"
            ))
        })?;
        let status = answer.status;
        let body = answer.whole().map_err(|error| refused(error.to_string()))?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
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
