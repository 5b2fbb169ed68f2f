//! VIPs and reals, for `list` and for the verbs that change them.
//!
//! Settings are printed by their definitions in `lb-model`, so a new one needs no code here.

use lb_model::{
    intent::{RealSpec, VipSpec},
    settings::{Field, Settings, Type, Value, plain},
};
use lb_proto::v1;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{Human, table};
use crate::{components, names};

/// The owner of objects that nobody in particular added; it is not shown where all objects have it.
const DEFAULT_OWNER: &str = "api";
/// Place of the forwarding mode in a line of `list`.
const FORWARD: usize = 1;

/// Settings in the order of their definition, components as words. Absent settings are `null`.
#[derive(Debug, Default, PartialEq)]
pub struct SettingsText(Vec<(&'static str, Value)>);

impl SettingsText {
    /// Reads the settings of the table `T` from a message, without those that only a newer agent knows.
    fn of<T: Settings, M: prost::Message + prost::Name>(message: &M) -> Self {
        let fields = T::fields();
        let map = lb_proto::settings::to_map(message, &fields).unwrap_or_default();
        let text = |field: &Field| match map.get(field.name) {
            Some(value) => components::write(field, value),
            None if matches!(field.kind, Type::List(_)) => Value::Array(Vec::new()),
            None => Value::Null,
        };
        SettingsText(
            fields
                .iter()
                .map(|field| (field.name, text(field)))
                .collect(),
        )
    }

    /// Returns a setting, or `null` if there is none of this name.
    pub fn get(&self, name: &str) -> &Value {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&Value::Null, |(_, value)| value)
    }

    /// Returns a setting as text, which is empty if the setting is absent.
    pub fn text(&self, name: &str) -> String {
        match self.get(name) {
            Value::Null => String::new(),
            value => plain(value),
        }
    }

    /// Returns names and values of present settings. Each value of a list has an entry of its own.
    fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().flat_map(|(name, value)| {
            let values = match value {
                Value::Null => Vec::new(),
                Value::String(text) if text.is_empty() => Vec::new(),
                Value::Array(items) => items.iter().map(plain).collect(),
                value => vec![plain(value)],
            };
            values.into_iter().map(move |value| (*name, value))
        })
    }

    /// Returns the settings of a real that differ from its VIP's.
    pub fn differences(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.lines()
            .filter(|(name, _)| !["weight", "drained", "evacuated"].contains(name))
    }

    /// Serializes the settings that are present.
    fn serialize_present<S: Serializer>(&self, map: &mut S::SerializeMap) -> Result<(), S::Error> {
        let absent = |value: &Value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        self.0
            .iter()
            .filter(|(_, value)| !absent(value))
            .try_for_each(|(name, value)| map.serialize_entry(name, value))
    }

    fn serialize_into<S: Serializer>(&self, map: &mut S::SerializeMap) -> Result<(), S::Error> {
        self.0
            .iter()
            .try_for_each(|(name, value)| map.serialize_entry(name, value))
    }
}

/// A real with its state.
#[derive(Debug, PartialEq)]
pub struct Real {
    /// Its address.
    pub address: String,
    /// The operator's weight, 0 to 65535.
    pub weight: u32,
    /// The weight that steering applies.
    pub effective_weight: u32,
    /// active, draining, held, unreachable or down.
    pub state: &'static str,
    /// Its share of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// False if `flows` is an estimate.
    pub flows_exact: bool,
    /// Whether the operator drained it: it takes no new flows, whatever its weight.
    pub drained: bool,
    /// Whether its connections are ended while it is drained.
    pub evacuated: bool,
    /// To whom it belongs: file, api or controller:NAME.
    pub owner: String,
    /// Its settings.
    pub settings: SettingsText,
}

impl Serialize for Real {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("address", &self.address)?;
        self.settings.serialize_present::<S>(&mut map)?;
        map.serialize_entry("effective_weight", &self.effective_weight)?;
        map.serialize_entry("state", self.state)?;
        map.serialize_entry("share", &self.share)?;
        map.serialize_entry("flows", &self.flows)?;
        map.serialize_entry("flows_exact", &self.flows_exact)?;
        map.serialize_entry("owner", &self.owner)?;
        map.end()
    }
}

impl From<&v1::Real> for Real {
    fn from(real: &v1::Real) -> Self {
        let spec = real.spec.clone().unwrap_or_default();
        Real {
            address: real.address.clone(),
            weight: spec.weight(),
            effective_weight: real.effective_weight,
            state: names::state(real.state()),
            share: real.share,
            flows: real.flows,
            flows_exact: real.flows_exact,
            drained: spec.drained(),
            evacuated: spec.evacuated(),
            owner: real.owner.clone(),
            settings: SettingsText::of::<RealSpec, _>(&spec),
        }
    }
}

impl Real {
    /// Returns the forwarding mode that it has by itself, if it has one.
    pub fn mode(&self) -> Option<String> {
        Some(self.settings.text("mode")).filter(|mode| !mode.is_empty())
    }
}

impl Human for Real {
    fn human(&self) -> String {
        let drained = match (self.drained, self.evacuated) {
            (false, _) => "",
            (true, false) => ", drained",
            (true, true) => ", drained and evacuated",
        };
        let mode = match self.mode() {
            Some(mode) => format!("{mode}, "),
            None => String::new(),
        };
        format!(
            "real {}: {mode}weight {}, effective {}, {}{drained}, {} of the ring\n",
            self.address,
            self.weight,
            self.effective_weight,
            self.state,
            table::percent(self.share)
        )
    }
}

/// A VIP with its reals.
#[derive(Debug, PartialEq)]
pub struct Vip {
    /// Its name, such as `10.0.0.1:80/tcp`.
    pub vip: String,
    /// To whom it belongs: file, api or controller:NAME.
    pub owner: String,
    /// Number of the commit that last changed it or one of its reals.
    pub revision: u64,
    /// Its settings.
    pub settings: SettingsText,
    /// The reals, in the agent's order.
    pub reals: Vec<Real>,
}

impl Serialize for Vip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("vip", &self.vip)?;
        self.settings.serialize_into::<S>(&mut map)?;
        map.serialize_entry("owner", &self.owner)?;
        map.serialize_entry("revision", &self.revision)?;
        map.serialize_entry("reals", &self.reals)?;
        map.end()
    }
}

impl From<&v1::Vip> for Vip {
    fn from(vip: &v1::Vip) -> Self {
        let spec = vip.spec.clone().unwrap_or_default();
        Vip {
            vip: names::vip(vip.id.as_ref()),
            owner: vip.owner.clone(),
            revision: vip.revision,
            settings: SettingsText::of::<VipSpec, _>(&spec),
            reals: vip.reals.iter().map(Real::from).collect(),
        }
    }
}

impl Human for Vip {
    fn human(&self) -> String {
        format!(
            "VIP {}: {}, {}, tracks {}, window {}, {}\n",
            self.vip,
            self.settings.text("forward"),
            self.settings.text("ring"),
            self.settings.text("track"),
            self.settings.text("window"),
            table::count(self.reals.len(), "real")
        )
    }
}

impl Vip {
    /// Returns the settings that the first line does not show, one per line.
    pub fn details(&self) -> String {
        let mut text = self.human();
        for (name, value) in self.settings.lines() {
            if !["forward", "ring", "track", "window", "slots"].contains(&name) {
                text.push_str(&format!("  {:<11} {value}\n", name.replace('_', "-")));
            }
        }
        text.push_str(&format!("  {:<11} {}\n", "owner", self.owner));
        text.push_str(&format!("  {:<11} {}\n", "revision", self.revision));
        text
    }
}

/// What `list` prints.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Vips(pub Vec<Vip>);

impl Human for Vips {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "no VIP; `lbctl add-vip` adds one\n".to_owned();
        }
        // The column exists if at least one VIP has a description.
        let described = self
            .0
            .iter()
            .any(|vip| !vip.settings.text("description").is_empty());
        // So is that of the owners, as soon as an object belongs to somebody else than the API's callers.
        let owned = self.0.iter().any(|vip| {
            let mut owners = vip.reals.iter().map(|real| &real.owner).chain([&vip.owner]);
            owners.any(|owner| owner != DEFAULT_OWNER && !owner.is_empty())
        });
        let rows = self.0.iter().flat_map(|vip| {
            let mut head = vec![vip.vip.clone()];
            head.extend(["forward", "ring", "track", "window"].map(|name| vip.settings.text(name)));
            let none = || {
                let mut row = vec![vip.settings.text("forward")];
                row.extend(["-"; 5].map(str::to_owned));
                row.push(vip.owner.clone());
                vec![row]
            };
            let reals: Vec<Vec<String>> = vip
                .reals
                .iter()
                .map(|real| {
                    let weight = if real.weight == real.effective_weight {
                        real.weight.to_string()
                    } else {
                        format!("{} ({})", real.weight, real.effective_weight)
                    };
                    vec![
                        real.mode().unwrap_or_else(|| vip.settings.text("forward")),
                        real.address.clone(),
                        weight,
                        real.state.to_owned(),
                        table::percent(real.share),
                        table::flows(real.flows, real.flows_exact),
                        real.owner.clone(),
                    ]
                })
                .collect();
            let reals = if reals.is_empty() { none() } else { reals };
            let description = described.then(|| vip.settings.text("description"));
            let of_vip = vip.owner.clone();
            reals.into_iter().map(move |mut real| {
                let mut row = head.clone();
                let owner = real.pop().unwrap_or_default();
                // How packets reach this real.
                row[FORWARD] = real.remove(0);
                row.extend(real);
                if owned {
                    row.push(if owner == of_vip {
                        owner
                    } else {
                        format!("{of_vip}, real {owner}")
                    });
                }
                row.extend(description.clone());
                row
            })
        });
        let mut columns = vec![
            ("VIP", false),
            ("FORWARD", false),
            ("RING", false),
            ("TRACK", false),
            ("WINDOW", false),
            ("REAL", false),
            ("WEIGHT", true),
            ("STATE", false),
            ("SHARE", true),
            ("FLOWS", true),
        ];
        if owned {
            columns.push(("OWNER", false));
        }
        if described {
            columns.push(("DESCRIPTION", false));
        }
        table::layout(&columns, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(reals: Vec<v1::Real>) -> Vip {
        Vip::from(&v1::Vip {
            id: Some(v1::VipId {
                address: "10.0.0.1".to_owned(),
                port: 80,
                protocol: v1::Protocol::Tcp.into(),
                ..v1::VipId::default()
            }),
            spec: Some(v1::VipSpec {
                forward: Some(v1::Forward::L2.into()),
                ..v1::VipSpec::default()
            }),
            reals,
            ..v1::Vip::default()
        })
    }

    fn real(address: &str, mode: Option<v1::Forward>) -> v1::Real {
        v1::Real {
            address: address.to_owned(),
            spec: Some(v1::RealSpec {
                mode: mode.map(Into::into),
                ..v1::RealSpec::default()
            }),
            ..v1::Real::default()
        }
    }

    #[test]
    fn each_real_is_listed_with_its_own_mode_or_the_vips() {
        let reals = vec![
            real("10.1.0.2", None),
            real("10.1.0.3", Some(v1::Forward::Gue)),
        ];
        let text = Vips(vec![vip(reals), vip(Vec::new())]).human();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0][..2], ["VIP", "FORWARD"]);
        for (row, mode, address) in [
            (&rows[1], "l2", "10.1.0.2"),
            (&rows[2], "gue", "10.1.0.3"),
            (&rows[3], "l2", "-"),
        ] {
            assert_eq!((row[0], row[1]), ("10.0.0.1:80/tcp", mode), "{text}");
            assert!(row.contains(&address), "{text}");
        }
    }

    #[test]
    fn a_mode_of_its_own_is_told() {
        let told = |mode| Real::from(&real("10.1.0.2", mode));
        assert!(
            told(Some(v1::Forward::Nat))
                .human()
                .starts_with("real 10.1.0.2: nat, weight ")
        );
        assert!(told(None).human().starts_with("real 10.1.0.2: weight "));
        let json = |mode| serde_json::to_value(told(mode)).unwrap();
        assert_eq!(json(Some(v1::Forward::L2))["mode"], "l2");
        assert_eq!(json(None).get("mode"), None);
    }
}
