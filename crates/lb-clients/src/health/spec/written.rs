//! The form in files and in the store: the probe's settings stand beside the times, as in
//! `kind = "http"`, `path = "/healthz"`, `interval = "2s"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Check, Via};
use lb_model::duration;

/// A check as a table of settings.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Written(Map<String, Value>);

/// What every check has, as far as it is said.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Common {
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    interval: Option<Duration>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    fast_interval: Option<Duration>,
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthy_threshold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unhealthy_threshold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Via>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<u32>,
}

const COMMON: [&str; 8] = [
    "interval",
    "fast_interval",
    "timeout",
    "healthy_threshold",
    "unhealthy_threshold",
    "port",
    "via",
    "jitter",
];

impl TryFrom<Written> for Check {
    type Error = String;

    fn try_from(Written(settings): Written) -> Result<Self, String> {
        let (common, mut probe): (Map<_, _>, Map<_, _>) = settings
            .into_iter()
            .partition(|(name, _)| COMMON.contains(&name.as_str()));
        // `https` is `http` with TLS.
        if probe.get("kind").is_some_and(|kind| kind == "https") {
            probe.insert("kind".to_owned(), "http".into());
            probe
                .entry("tls")
                .or_insert_with(|| Value::Object(Map::new()));
        }
        let common: Common = read(common)?;
        let kind = probe
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let unknown = format!("unknown variant `{kind}`");
        let mut check = Check::new(read(probe).map_err(|error| advise(error, &unknown))?);
        check.interval = common.interval.unwrap_or(check.interval);
        check.fit_defaults();
        check.fast_interval = common.fast_interval.unwrap_or(check.fast_interval);
        check.timeout = common.timeout.unwrap_or(check.timeout);
        check.healthy_threshold = common.healthy_threshold.unwrap_or(check.healthy_threshold);
        check.unhealthy_threshold = common
            .unhealthy_threshold
            .unwrap_or(check.unhealthy_threshold);
        check.port = common.port;
        check.via = common.via.unwrap_or(check.via);
        check.jitter = common.jitter.unwrap_or(check.jitter);
        Ok(check)
    }
}

/// Says, too, what an error of the probe's own settings leaves out.
fn advise(error: String, unknown_kind: &str) -> String {
    if error.contains("unknown field") {
        format!("{error}; every check also has {}", COMMON.join(", "))
    } else if error.contains(unknown_kind) {
        format!("{error}, or https; MQTT and gRPC over TLS are `tls = {{}}`")
    } else {
        error
    }
}

impl From<Check> for Written {
    fn from(check: Check) -> Self {
        let kind = check.probe.kind();
        let common = Common {
            interval: Some(check.interval),
            fast_interval: Some(check.fast_interval),
            timeout: Some(check.timeout),
            healthy_threshold: Some(check.healthy_threshold),
            unhealthy_threshold: Some(check.unhealthy_threshold),
            port: check.port,
            via: Some(check.via),
            jitter: Some(check.jitter),
        };
        let mut settings = write(&check.probe);
        settings.insert("kind".to_owned(), kind.into());
        settings.extend(write(&common));
        Written(settings)
    }
}

fn read<T: for<'de> Deserialize<'de>>(settings: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(settings)).map_err(|error| error.to_string())
}

fn write(part: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(part) {
        Ok(Value::Object(settings)) => settings,
        other => unreachable!("a structure of texts and numbers is a table, not {other:?}"),
    }
}
