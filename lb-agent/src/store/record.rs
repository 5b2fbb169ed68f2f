//! The stored form of a VIP: its settings and its reals, as in the configuration file.

use std::collections::BTreeMap;

use lb_model::{
    duration,
    intent::{RealSpec, Vip, VipSpec},
    settings::{Map, Settings as _, Value},
    vip::{RealId, VipKey},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A VIP with its reals.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VipRecord {
    spec: VipSpec,
    reals: BTreeMap<RealId, RealSpec>,
}

impl VipRecord {
    /// The VIP with this name.
    pub(super) fn into_vip(self, address: VipKey) -> Vip {
        Vip {
            address,
            spec: self.spec,
            reals: self.reals,
        }
    }

    /// The JSON text of a VIP's record.
    pub(super) fn json(vip: &Vip) -> Value {
        let reals = vip.reals.iter();
        let reals = reals.map(|(id, real)| (id.to_string(), Value::Object(real.to_map())));
        json!({ "spec": vip.spec.to_map(), "reals": reals.collect::<Map<_, _>>() })
    }
}

/// Controllers that used each of these settings in schema 1, where every controller's were stored.
const OWN_SETTINGS: [(&str, &[&str]); 3] = [
    ("exponent", &["proportional"]),
    ("small_step", &["proportional", "latency"]),
    ("latency_decay", &["latency"]),
];

/// Converts a record of schema 1: the settings stood beside `reals`, a list; the window was in milliseconds.
///
/// # Errors
/// It is not a record of schema 1.
pub(super) fn from_schema_1(record: &[u8]) -> Result<Value, String> {
    let mut spec: Map<String, Value> =
        serde_json::from_slice(record).map_err(|error| error.to_string())?;
    let window = spec.remove("window_ms").and_then(|window| window.as_u64());
    let window = window.ok_or("missing field `window_ms`")?;
    let window = duration::format(std::time::Duration::from_millis(window));
    spec.insert("window".to_owned(), window.into());
    if let Some(Value::Object(steering)) = spec.get_mut("steering") {
        let controller = steering.get("controller").and_then(Value::as_str);
        let controller = controller.unwrap_or_default().to_owned();
        for (setting, users) in OWN_SETTINGS {
            if !users.contains(&controller.as_str()) {
                steering.remove(setting);
            }
        }
    }
    let Some(Value::Array(list)) = spec.remove("reals") else {
        return Err("missing field `reals`".to_owned());
    };
    let mut reals = Map::new();
    for real in list {
        let Value::Object(mut real) = real else {
            return Err("a real is not a table".to_owned());
        };
        let Some(Value::String(address)) = real.remove("address") else {
            return Err("missing field `address`".to_owned());
        };
        if let Some(Value::Array(changes)) = real.get_mut("load") {
            for change in changes.iter_mut().filter_map(Value::as_object_mut) {
                // A setting that does not differ is `null`, which would reset the source's.
                change.retain(|_, value| !value.is_null());
            }
        }
        reals.insert(address, Value::Object(real));
    }
    spec.retain(|_, value| !value.is_null());
    Ok(json!({ "spec": spec, "reals": reals }))
}
