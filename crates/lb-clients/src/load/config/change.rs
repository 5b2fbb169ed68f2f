//! Settings of a source that differ at one real.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Source, Written};
use crate::peer::fields::Fault;

/// What is another at one real, by the source's name; none is as the VIP says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceOverride {
    /// The source.
    pub name: String,
    /// It is not asked at this real.
    #[serde(default)]
    pub off: bool,
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How much it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Connections this real has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u64>,
    /// Bytes of memory this real has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// The topic of `mqtt-topic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The path of `prometheus` and `http-json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The node of `emqx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The container of `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl SourceOverride {
    /// The source as it is at this real; none if it is off there.
    ///
    /// # Errors
    /// A setting that the source's kind does not use, or a value that cannot be.
    pub fn apply(&self, source: &Source) -> Result<Option<Source>, Fault> {
        if self.off {
            return Ok(None);
        }
        let was = Written::from(source.clone());
        let text = |new: &Option<String>, old: Option<String>| new.clone().or(old);
        Source::try_from(Written {
            address: self
                .address
                .map(|address| address.to_string())
                .or(was.address),
            port: self.port.map(u32::from).or(was.port),
            weight: self.weight.or(was.weight),
            connection_limit: self.connection_limit.or(was.connection_limit),
            memory_limit: self.memory_limit.or(was.memory_limit),
            topic: text(&self.topic, was.topic),
            path: text(&self.path, was.path),
            node: text(&self.node, was.node),
            container: text(&self.container, was.container),
            ..was
        })
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_may_say_otherwise() {
        let source: Source =
            toml::from_str("kind = 'docker'\ncontainer = 'web'\nweight = 2.0").unwrap();
        let change: SourceOverride =
            toml::from_str("name = 'docker'\ncontainer = 'other'").unwrap();
        let changed = change.apply(&source).unwrap().unwrap();
        assert_eq!(changed.reader.kind(), source.reader.kind());
        assert_ne!(changed.reader, source.reader);
        assert_eq!(changed.weight, 2.0);
        let off: SourceOverride = toml::from_str("name = 'docker'\noff = true").unwrap();
        assert_eq!(off.apply(&source), Ok(None));
        let wrong: SourceOverride = toml::from_str("name = 'docker'\ntopic = 'x'").unwrap();
        assert_eq!(wrong.apply(&source).unwrap_err().field, "topic");
        assert!(toml::from_str::<SourceOverride>("name = 'x'\nkind = 'grpc'").is_err());
    }
}
