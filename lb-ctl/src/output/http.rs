//! What an `lb-proxy` serves.

use std::time::Duration;

use lb_model::duration;
use serde::{Deserialize, Serialize};

use super::{Human, table};

/// What a proxy says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub draining: bool,
    /// The CRC-32 of the configuration file that is followed; none without a file.
    #[serde(default)]
    pub config: Option<String>,
    /// What is not as it should be.
    #[serde(default)]
    pub warnings: Vec<String>,
    pub services: Vec<Service>,
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    pub host: Option<String>,
    pub path: String,
    pub service: String,
}

/// A service with its instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub choice: String,
    /// Instances that requests may go to.
    pub eligible: usize,
    /// Requests in each of the last seconds, the newest last.
    pub requests_by_second: Vec<u64>,
    pub cache: Option<Cache>,
    /// Names among its members.
    #[serde(default)]
    pub names: Vec<Name>,
    pub instances: Vec<Instance>,
}

/// A name whose addresses are instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Name {
    pub name: String,
    pub addresses: Vec<String>,
    /// Why it cannot be resolved; none if it can.
    pub error: Option<String>,
}

/// What the health check of an instance found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// `up`, `draining` or `down`.
    pub state: String,
    /// How long it has been so.
    pub seconds: f64,
    /// What the last probe found.
    pub reason: String,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cache {
    pub objects: u64,
    pub bytes: u64,
}

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    pub address: String,
    pub weight: u32,
    /// `up`, `draining` or `down`, as its source and its health check say.
    pub state: String,
    /// What its health check found; none without a check, and before its first result.
    #[serde(default)]
    pub health: Option<Health>,
    /// Whether the proxy itself leaves it out, because of its failures.
    pub ejected: bool,
    /// The part of its share that slow start gives it, 0 to 1.
    pub ramp: f64,
    pub pending: u64,
    /// Mean response time in seconds; none before the first answer.
    pub latency: Option<f64>,
    /// Requests a second, in the last 10 s.
    pub rate: f64,
    /// Part of the answers of the last 10 s that were failures.
    pub error_rate: Option<f64>,
}

/// Answers that were removed from a cache.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Purged {
    pub purged: usize,
}

impl Human for Purged {
    fn human(&self) -> String {
        format!("{} removed\n", table::count(self.purged, "answer"))
    }
}

/// Services, with routes.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct ServiceList(pub Seen);

impl Human for ServiceList {
    fn human(&self) -> String {
        let row = |service: &Service| {
            let seconds = &service.requests_by_second;
            let mean = seconds.iter().sum::<u64>() as f64 / seconds.len().max(1) as f64;
            vec![
                service.name.clone(),
                service.choice.clone(),
                format!("{}/{}", service.eligible, service.instances.len()),
                table::rate(mean),
                service
                    .cache
                    .map_or_else(|| "-".to_owned(), |cache| cache.objects.to_string()),
                service
                    .cache
                    .map_or_else(|| "-".to_owned(), |cache| table::bytes(cache.bytes)),
            ]
        };
        let columns = [
            ("SERVICE", false),
            ("CHOICE", false),
            ("INSTANCES", true),
            ("REQUESTS/S", true),
            ("CACHED", true),
            ("BYTES", true),
        ];
        let mut text = table::layout(&columns, self.0.services.iter().map(row));
        let row = |route: &Route| {
            let host = route.host.as_deref().unwrap_or("*");
            vec![host.to_owned(), route.path.clone(), route.service.clone()]
        };
        let columns = [("HOST", false), ("PATH", false), ("SERVICE", false)];
        text.push('\n');
        text += &table::layout(&columns, self.0.routes.iter().map(row));
        if !self.0.warnings.is_empty() {
            text.push('\n');
        }
        for warning in &self.0.warnings {
            text += &format!("warning: {warning}\n");
        }
        if self.0.draining {
            text += "\nThe proxy drains: it takes no new connections.\n";
        }
        text
    }
}

/// The instances of services.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct InstanceList(pub Vec<Service>);

impl Human for InstanceList {
    fn human(&self) -> String {
        let columns = [
            ("SERVICE", false),
            ("INSTANCE", false),
            ("STATE", false),
            ("WEIGHT", true),
            ("PENDING", true),
            ("REQUESTS/S", true),
            ("LATENCY", true),
            ("FAILURES", true),
        ];
        let services = self.0.iter();
        let rows = services.flat_map(|service| {
            service.instances.iter().map(|instance| {
                vec![
                    service.name.clone(),
                    instance.address.clone(),
                    if instance.ejected {
                        "ejected".to_owned()
                    } else {
                        instance.state.clone()
                    },
                    instance.weight.to_string(),
                    instance.pending.to_string(),
                    table::rate(instance.rate),
                    instance
                        .latency
                        .map_or_else(|| "-".to_owned(), milliseconds),
                    instance
                        .error_rate
                        .map_or_else(|| "-".to_owned(), table::percent),
                ]
            })
        });
        table::layout(&columns, rows)
    }
}

impl Health {
    /// Why the instance gets no requests.
    fn reason(&self) -> String {
        let time = duration::format(Duration::from_secs(self.seconds as u64));
        let finds = match self.state.as_str() {
            "draining" => "wants it to be drained",
            _ => "finds it down",
        };
        format!("its health check {finds} since {time}: {}", self.reason)
    }
}

/// Why an instance gets the requests that it gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reasons {
    pub service: String,
    pub instance: String,
    /// Whether it gets requests.
    pub serves: bool,
    /// Its part of the weights of those that do, 0 to 1.
    pub share: f64,
    pub reasons: Vec<String>,
}

impl Reasons {
    /// The reasons of each instance of a service.
    pub fn of(service: &Service) -> Vec<Reasons> {
        let is_wanted = |one: &Instance| one.state == "up" && one.weight > 0;
        // With all of them ejected, none is left out.
        let is_left_out = |one: &Instance| is_wanted(one) && one.ejected;
        let serves = |one: &Instance| is_wanted(one) && !is_left_out(one);
        let effective = |one: &Instance| f64::from(one.weight) * one.ramp;
        let instances = &service.instances;
        let all: f64 = instances
            .iter()
            .filter(|one| serves(one))
            .map(effective)
            .sum();
        let reasons = |one: &Instance| {
            let mut reasons = Vec::new();
            let check = one.health.as_ref();
            match one.state.as_str() {
                state if check.is_some_and(|health| health.state == state && state != "up") => {
                    reasons.extend(check.map(Health::reason));
                }
                "down" => reasons.push("its source says that it is down".to_owned()),
                "draining" => {
                    reasons.push("its source drains it: requests under way end".to_owned());
                }
                _ if one.weight == 0 => reasons.push("its weight is 0".to_owned()),
                _ => {}
            }
            if is_left_out(one) {
                reasons.push("the proxy leaves it out for a while: it failed too often".to_owned());
            }
            if serves(one) {
                let ramp = if one.ramp < 1.0 {
                    format!(", slow start leaves it {}", table::percent(one.ramp))
                } else {
                    String::new()
                };
                reasons.push(format!("weight {}{ramp}", one.weight));
                reasons.push(format!("choice {}", service.choice));
            }
            if let Some(latency) = one.latency {
                reasons.push(format!("answers in {} on average", milliseconds(latency)));
            }
            if let Some(rate) = one.error_rate.filter(|rate| *rate > 0.0) {
                reasons.push(format!(
                    "{} of its answers of the last 10 s were failures",
                    table::percent(rate)
                ));
            }
            reasons.push(format!(
                "{} under way",
                table::count(one.pending as usize, "request")
            ));
            reasons
        };
        instances
            .iter()
            .map(|one| Reasons {
                service: service.name.clone(),
                instance: one.address.clone(),
                serves: serves(one),
                share: if serves(one) && all > 0.0 {
                    effective(one) / all
                } else {
                    0.0
                },
                reasons: reasons(one),
            })
            .collect()
    }
}

impl Human for Reasons {
    fn human(&self) -> String {
        let head = if self.serves {
            format!("gets {} of the weights", table::percent(self.share))
        } else {
            "gets no requests".to_owned()
        };
        let lines: String = self
            .reasons
            .iter()
            .map(|reason| format!("  {reason}\n"))
            .collect();
        format!("{} {}: {head}\n{lines}", self.service, self.instance)
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(address: &str, weight: u32) -> Instance {
        Instance {
            address: address.to_owned(),
            weight,
            state: "up".to_owned(),
            health: None,
            ejected: false,
            ramp: 1.0,
            pending: 0,
            latency: None,
            rate: 0.0,
            error_rate: None,
        }
    }

    #[test]
    fn shares_are_those_of_the_instances_that_serve() {
        let service = Service {
            name: "web".to_owned(),
            choice: "score".to_owned(),
            eligible: 2,
            requests_by_second: Vec::new(),
            cache: None,
            names: Vec::new(),
            instances: vec![
                instance("a", 100),
                Instance {
                    ramp: 0.5,
                    ..instance("b", 200)
                },
                Instance {
                    ejected: true,
                    ..instance("c", 100)
                },
                Instance {
                    state: "down".to_owned(),
                    ..instance("d", 100)
                },
                instance("e", 0),
                Instance {
                    state: "down".to_owned(),
                    health: Some(Health {
                        state: "down".to_owned(),
                        seconds: 7.4,
                        reason: "connection refused".to_owned(),
                    }),
                    ..instance("f", 100)
                },
            ],
        };
        let reasons = Reasons::of(&service);
        let shares: Vec<f64> = reasons.iter().map(|one| one.share).collect();
        assert_eq!(shares, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        let has =
            |at: usize, words: &str| reasons[at].reasons.iter().any(|one| one.contains(words));
        assert!(has(1, "slow start leaves it 50.00 %"), "{reasons:?}");
        assert!(has(2, "failed too often"), "{reasons:?}");
        assert!(has(3, "down"), "{reasons:?}");
        assert!(has(4, "weight is 0"), "{reasons:?}");
        let down = "its health check finds it down since 7s: connection refused";
        assert!(has(5, down), "{reasons:?}");
        assert!(!has(5, "its source"), "{reasons:?}");
    }
}
