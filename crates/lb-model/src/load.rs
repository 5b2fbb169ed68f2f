//! Load sources: where the load of a VIP's reals is read, and the overrides of a real.

use std::{net::IpAddr, time::Duration};

use crate::peer::{Secret, Tls};
use crate::settings::{FieldError, MAX_TEXT, Map, Settings as _, Value};

/// The default time between two readings. It equals the period of steering.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// The default time that a reading may take.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The most sources that a VIP may have.
pub const MAX_SOURCES: usize = 8;

crate::settings! {
    /// Where load is read, and how. A source of a VIP is read for each of its reals. Texts may contain `{address}` (the
    /// address that is read) and `{real}` (the real's own).
    pub struct LoadSource {
        /// Name among the VIP's sources, shown with each reading. The default is the name of the kind.
        name: Option<String> = None;
        /// Time between two readings, or how often a broker publishes. The default depends on the kind.
        interval: Option<Duration> = None, Duration::from_millis(500)..=Duration::from_secs(3_600);
        /// How long a reading may take, from connecting to the last byte. The default is 2 s, or the interval if that is
        /// less.
        timeout: Option<Duration> = None, Duration::from_millis(10)..=Duration::from_secs(60);
        /// Weight of this source if several report the same quantity; more than 0.
        weight: f64 = 1.0, 0.0..=1_000.0;
        /// Port to read from. The default depends on the kind.
        port: Option<u16> = None, 1..=65_535;
        /// Address to read from. The default is the real's.
        address: Option<IpAddr> = None;
        /// User name, together with `password`.
        username: Option<String> = None;
        /// Reference to the password.
        password: Option<Secret> = None;
        /// Reference to a bearer token (HTTP), instead of a user name.
        token: Option<Secret> = None;
        /// TLS. The default is no encryption.
        tls: Option<Tls> = None;
        /// Connections that the real has room for, if the source does not report it.
        connection_limit: Option<u64> = None, 1..=u64::MAX;
        /// Bytes of memory that the real has, if the source does not report it.
        memory_limit: Option<u64> = None, 1..=u64::MAX;
        ..reader: "kind";
    }
    validate(source) {
        if source.weight <= 0.0 {
            return Err(FieldError::new("weight", source.weight, "give more than 0"));
        }
        for (field, text) in [("name", &source.name), ("username", &source.username)] {
            if let Some(text) = text && (text.is_empty() || text.contains(char::is_control)) {
                return Err(FieldError::new(
                    field,
                    format!("{text:?}"),
                    format!("give 1 to {MAX_TEXT} bytes without control characters"),
                ));
            }
        }
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
    /// Returns its name among the VIP's sources.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.reader.kind)
    }

    /// Returns how long a reading may take if the source is read once in this interval.
    #[must_use]
    pub fn timeout(&self, interval: Duration) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval))
    }
}

/// The overrides of a load source for a real: settings that replace those of the source with this name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceOverride {
    /// Name of the source.
    pub name: String,
    /// Whether the source is not read for this real.
    pub off: bool,
    /// Settings that replace the source's.
    pub settings: Map<String, Value>,
}

impl SourceOverride {
    /// Returns the source for this real, or `None` if it is off. The caller normalizes it with its registry.
    ///
    /// # Errors
    /// Fails if a common setting has an invalid value, and if the override has another kind.
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
    fn settings_that_cannot_be_used_are_refused() {
        for (json, field) in [
            (json!({ "kind": "emqx", "username": "u" }), "password"),
            (json!({ "kind": "emqx", "password": "env:P" }), "username"),
            (
                json!({ "kind": "emqx", "username": "u", "password": "env:P", "token": "env:T" }),
                "token",
            ),
            (json!({ "kind": "emqx", "weight": 0 }), "weight"),
            (json!({ "kind": "emqx", "name": "" }), "name"),
            (
                json!({ "kind": "emqx", "username": "a\n", "password": "env:P" }),
                "username",
            ),
        ] {
            assert_eq!(LoadSource::from_json(&json).unwrap_err().field, field);
        }
    }
}
