//! Sources of load: where a VIP's reals are asked how busy they are, and what differs for one real.

use std::{net::IpAddr, time::Duration};

use crate::peer::{Secret, Tls};
use crate::settings::{FieldError, Map, Settings as _, Value};

/// Time between two readings by default: the control period of steering.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// How long one reading may take by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// Sources of one VIP at most.
pub const MAX_SOURCES: usize = 8;

crate::settings! {
    /// Where load is read, and how. A source of a VIP is asked at each of its reals; texts may hold `{address}` (the
    /// address that is asked) and `{real}` (the real's own).
    pub struct LoadSource {
        /// Its name among the VIP's sources, shown with each reading; without it the kind's name.
        name: Option<String> = None;
        /// Time between two readings; for what a broker publishes by itself, how often it does. Without it the kind's own.
        interval: Option<Duration> = None, Duration::from_millis(500)..=Duration::from_secs(3_600);
        /// How long one reading may take.
        timeout: Duration = DEFAULT_TIMEOUT, Duration::from_millis(10)..=Duration::from_secs(60);
        /// How much it counts where several sources report the same quantity; more than 0.
        weight: f64 = 1.0, f64::MIN_POSITIVE..=1_000.0;
        /// Port that is asked; without it the kind's own.
        port: Option<u16> = None, 1..=65_535;
        /// Address that is asked; without it the real's.
        address: Option<IpAddr> = None;
        /// User name; goes with `password`.
        username: Option<String> = None;
        /// Place of the password.
        password: Option<Secret> = None;
        /// Place of a bearer token (HTTP), instead of a user name.
        token: Option<Secret> = None;
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
        /// Connections that the real has room for, where the source does not report it.
        connection_limit: Option<u64> = None, 1..=u64::MAX;
        /// Bytes of memory that the real has, where the source does not report it.
        memory_limit: Option<u64> = None, 1..=u64::MAX;
        ..reader: "kind";
    }
    validate(source) {
        match (&source.username, &source.password, &source.token) {
            (Some(_), None, _) => Err(FieldError::missing("password", "a user name needs one")),
            (None, Some(_), _) => Err(FieldError::missing("username", "a password needs one")),
            (Some(_), Some(_), Some(_)) => Err(FieldError::new(
                "token",
                "given",
                "give a token, or a user name with its password; not both",
            )),
            _ => Ok(()),
        }
    }
}

impl LoadSource {
    /// Its name among the VIP's sources.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.reader.kind)
    }
}

/// What of a source differs for one real: settings that replace those of the source of this name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceOverride {
    /// The source.
    pub name: String,
    /// Whether the source is not read at this real.
    pub off: bool,
    /// Settings that replace the source's.
    pub settings: Map<String, Value>,
}

impl SourceOverride {
    /// The source as it is for this real, `None` if it is off. The caller normalizes it with its registry.
    ///
    /// # Errors
    /// A setting that is common to all kinds and cannot have its value, or another kind.
    pub fn apply(&self, source: &LoadSource) -> Result<Option<LoadSource>, FieldError> {
        if self.off {
            return Ok(None);
        }
        let mut map = source.to_map();
        for (name, value) in &self.settings {
            if name == "kind" {
                let advice = "a real cannot change the kind of a source; leave it out";
                return Err(FieldError::new(name, crate::settings::plain(value), advice));
            }
            map.insert(name.clone(), value.clone());
        }
        LoadSource::take(&mut map).map(Some)
    }
}

impl crate::settings::SettingType for SourceOverride {
    type Bound = ();

    fn describe() -> crate::settings::Type {
        crate::settings::Type::Text("table")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let mut settings = value
            .as_object()
            .ok_or_else(|| {
                let text = crate::settings::plain(value);
                FieldError::new(
                    "",
                    text,
                    "give a table with the name of a source and its settings",
                )
            })?
            .clone();
        Ok(SourceOverride {
            name: crate::settings::take_field(&mut settings, "name", None)?,
            off: crate::settings::take_field(&mut settings, "off", Some(false))?,
            settings,
        })
    }

    fn to_json(&self) -> Value {
        let mut map = self.settings.clone();
        map.insert("name".to_owned(), Value::String(self.name.clone()));
        if self.off {
            map.insert("off".to_owned(), Value::Bool(true));
        }
        Value::Object(map)
    }

    fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

crate::serde_by_json!(SourceOverride);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::SettingType as _;

    #[test]
    fn a_real_may_differ() {
        let source =
            LoadSource::from_json(&json!({ "kind": "docker", "container": "web", "weight": 2 }))
                .unwrap();
        let change = |json: Value| SourceOverride::from_json(&json).unwrap();
        let other = change(json!({ "name": "docker", "container": "other" }));
        let changed = other.apply(&source).unwrap().unwrap();
        assert_eq!(changed.reader.settings["container"], "other");
        assert_eq!(changed.weight, 2.0);
        let off = change(json!({ "name": "docker", "off": true }));
        assert_eq!(off.apply(&source), Ok(None));
        let kind = change(json!({ "name": "docker", "kind": "grpc" }));
        assert_eq!(kind.apply(&source).unwrap_err().field, "kind");
        assert_eq!(SourceOverride::from_json(&off.to_json()).unwrap(), off);
    }

    #[test]
    fn a_login_is_whole() {
        for (json, field) in [
            (json!({ "kind": "emqx", "username": "u" }), "password"),
            (json!({ "kind": "emqx", "password": "env:P" }), "username"),
            (
                json!({ "kind": "emqx", "username": "u", "password": "env:P", "token": "env:T" }),
                "token",
            ),
            (json!({ "kind": "emqx", "weight": 0 }), "weight"),
        ] {
            assert_eq!(LoadSource::from_json(&json).unwrap_err().field, field);
        }
    }
}
