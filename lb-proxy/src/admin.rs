//! The administration's address: metrics, health, what is going on, the load of instances, and purging.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use lb_serve::{
    http::{Page, Site},
    metrics::{Format, render},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock,
    config::Edit,
    metrics::Metrics,
    proxy::Shared,
    service::{Entry, Service},
};

const JSON: &str = "application/json";
const LOAD: &str = "/v1/load/";
const PURGE: &str = "/v1/purge";
const CHANGE: &str = "/v1/change";
const RELOAD: &str = "/v1/reload";

/// What a caller wants done.
#[derive(Debug)]
pub enum Work {
    /// A change of the configuration file.
    Change(Edit),
    /// The configuration is to be read again, as SIGHUP does.
    Reload,
}

/// What a caller wants done, and where the answer goes: the reason of a refusal.
#[derive(Debug)]
pub struct Order {
    /// The work.
    pub work: Work,
    /// Who waits for it.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The pages of a proxy.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

impl Admin {
    /// The pages of this proxy. Changes of its configuration are made by the receiver of `orders`.
    #[must_use]
    pub const fn new(shared: Arc<Shared>, orders: mpsc::Sender<Order>) -> Self {
        Admin { shared, orders }
    }

    /// Has the configuration changed.
    async fn change(&self, body: &[u8]) -> Result<Value, String> {
        let edit = serde_json::from_slice(body)
            .map_err(|error| format!("the body is no change in JSON: {error}"))?;
        self.order(Work::Change(edit)).await?;
        Ok(json!({ "changed": true }))
    }

    /// Has the configuration read again.
    async fn reload(&self) -> Result<Value, String> {
        self.order(Work::Reload).await?;
        Ok(json!({ "reloaded": true, "config": self.config() }))
    }

    async fn order(&self, work: Work) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let ends = |_| "the proxy ends".to_owned();
        let order = Order { work, answer };
        self.orders.send(order).await.map_err(|_| ends(()))?;
        answered.await.map_err(|_| ends(()))?
    }

    /// The CRC-32 of the configuration file that is followed, as 8 hexadecimal digits.
    fn config(&self) -> Option<String> {
        self.shared.sum().map(|sum| format!("{sum:08x}"))
    }

    fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.shared.running.load().services.get(name).cloned()
    }

    /// The load of one instance, as a balancer's load reader asks for it: `/v1/load/SERVICE/ADDRESS`.
    fn load(&self, path: &str) -> Option<Value> {
        let (name, address) = path.strip_prefix(LOAD)?.split_once('/')?;
        let entries = self.service(name)?.entries();
        let of = |entry: &&Entry| {
            let own = entry.instance.address;
            own.to_string() == address || own.ip().to_string() == address
        };
        let entry = entries.iter().find(of)?;
        let recent = entry.instance.recent();
        Some(json!({
            "pending": entry.instance.pending(),
            "rate": recent.rate,
            "latency": recent.latency,
            "error_rate": recent.error_rate,
        }))
    }

    fn services(&self) -> Value {
        // First: what is seen then is at least as new.
        let config = self.config();
        let running = self.shared.running.load_full();
        let services = running.services.values();
        json!({
            "draining": self.shared.is_draining(),
            "config": config,
            "at_next_start": self.shared.at_next_start(),
            "not_followed": self.shared.refused().map(|(_, why)| why),
            "warnings": self.shared.warnings(),
            "services": services.map(|service| describe(service)).collect::<Vec<_>>(),
            "routes": running.config.routes.iter().map(|route| json!({
                "host": route.host,
                "path": route.path,
                "service": route.service,
            })).collect::<Vec<_>>(),
        })
    }

    /// Removes answers from caches: `?service=NAME&key=URI` or `?service=NAME&prefix=URI`; without both everything.
    fn purge(&self, uri: &Uri) -> Result<usize, String> {
        const USAGE: &str = "write /v1/purge?service=NAME&key=URI or &prefix=URI";
        let mut name = None;
        let mut key = None;
        let mut prefix = None;
        for pair in uri.query().unwrap_or_default().split('&') {
            let (field, value) = pair.split_once('=').ok_or(USAGE)?;
            let value = decoded(value).ok_or(USAGE)?;
            match field {
                "service" => name = Some(value),
                "key" => key = Some(value),
                "prefix" => prefix = Some(value),
                _ => return Err(USAGE.to_owned()),
            }
        }
        let name = name.ok_or(USAGE)?;
        let service = self
            .service(&name)
            .ok_or_else(|| format!("there is no service {name}"))?;
        let cache = service
            .cache
            .load_full()
            .ok_or_else(|| format!("service {name} has no cache"))?;
        match (key, prefix) {
            (Some(key), None) => Ok(cache.purge(&key)),
            (None, Some(prefix)) => Ok(cache.purge_prefix(&prefix)),
            (None, None) => Ok(cache.purge_prefix("")),
            (Some(_), Some(_)) => Err(USAGE.to_owned()),
        }
    }
}

fn describe(service: &Service) -> Value {
    let settings = service.settings.load();
    let cache = service.cache.load_full().map(|cache| {
        let (objects, bytes) = cache.used();
        json!({ "objects": objects, "bytes": bytes })
    });
    let instance = |entry: &Entry| {
        let instance = &entry.instance;
        let recent = instance.recent();
        json!({
            "address": instance.address.to_string(),
            "weight": entry.member.weight,
            "state": entry.state().name(),
            "health": entry.health.as_ref().map(|health| json!({
                "state": health.state.name(),
                "seconds": clock::now().saturating_sub(health.since).as_secs_f64(),
                "reason": health.reason,
            })),
            "ejected": instance.is_ejected(),
            "ramp": instance.load(settings.slow_start).ramp,
            "pending": instance.pending(),
            "latency": instance.latency(),
            "rate": recent.rate,
            "error_rate": recent.error_rate,
        })
    };
    json!({
        "name": service.name,
        "choice": settings.choice,
        "eligible": service.eligible(),
        "source_lost": service.source.seen().lost.map(|(time, why)| json!({
            "seconds": time.as_secs_f64(),
            "reason": why,
        })),
        "requests_by_second": service.seconds(),
        "cache": cache,
        "names": service.names().iter().map(|(name, known)| json!({
            "name": name,
            "addresses": known.addresses().map(|one| one.to_string()).collect::<Vec<_>>(),
            "error": known.failed.as_ref().map(|(_, why)| why),
        })).collect::<Vec<_>>(),
        "instances": service.entries().iter().map(instance).collect::<Vec<_>>(),
    })
}

/// Decodes a value of a query.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
                rest = &tail[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn json_page(value: &Value) -> Page {
    let mut text = value.to_string();
    text.push('\n');
    Page::Found {
        media_type: JSON,
        body: Bytes::from(text),
    }
}

impl Site for Admin {
    const PATHS: &'static [&'static str] = &["/metrics", "/healthz", "/v1/services"];
    const PREFIXES: &'static [&'static str] = &[LOAD];
    const ACTIONS: &'static [&'static str] = &[PURGE, CHANGE, RELOAD];
    const INDEX: &'static str = "lb-proxy\n\n/metrics\n/healthz\n/v1/services\n/v1/load/SERVICE/ADDRESS\n\
                                 POST /v1/purge?service=NAME&key=URI or &prefix=URI\nPOST /v1/change\nPOST /v1/reload\n";

    async fn page(&self, path: &str, headers: &HeaderMap) -> Page {
        match path {
            "/metrics" => {
                let format = Format::negotiate(headers);
                match render(Metrics::take(&self.shared), format) {
                    Ok(text) => Page::Found {
                        media_type: format.media_type(),
                        body: Bytes::from(text),
                    },
                    Err(error) => Page::Unavailable(format!("{error}\n")),
                }
            }
            "/healthz" => match self.shared.unready() {
                Some(why) => Page::Unavailable(format!("{why}\n")),
                None => Page::Found {
                    media_type: "text/plain; charset=utf-8",
                    body: Bytes::from_static(b"ok\n"),
                },
            },
            "/v1/services" => json_page(&self.services()),
            path => match self.load(path) {
                Some(load) => json_page(&load),
                None => Page::Unavailable("there is no such service or instance\n".to_owned()),
            },
        }
    }

    async fn act(&self, uri: &Uri, body: Bytes) -> Page {
        let done = match uri.path() {
            CHANGE => self.change(&body).await,
            RELOAD => self.reload().await,
            _ => self.purge(uri).map(|count| json!({ "purged": count })),
        };
        match done {
            Ok(answer) => json_page(&answer),
            Err(error) => Page::Refused(format!("{error}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_queries_are_decoded() {
        assert_eq!(decoded("http%3A%2F%2Fa+b").unwrap(), "http://a b");
        assert_eq!(decoded("%2"), None);
        assert_eq!(decoded("%zz"), None);
    }
}
