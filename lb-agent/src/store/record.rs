//! The stored form of a VIP: its owner, its settings and its reals. Settings stand there as in the configuration file.

use std::collections::BTreeMap;

use lb_model::{
    duration,
    intent::{Owner, Real, RealSpec, Vip, VipSpec},
    settings::{Map, Settings as _, Value},
    vip::{RealId, VipKey},
};
use serde::Deserialize;
use serde_json::json;

/// A VIP with its reals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VipRecord {
    owner: Owner,
    spec: VipSpec,
    reals: BTreeMap<RealId, RealRecord>,
}

/// A real.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RealRecord {
    owner: Owner,
    spec: RealSpec,
}

impl VipRecord {
    /// The VIP with this name, last changed at this revision.
    pub(super) fn into_vip(self, address: VipKey, revision: u64) -> Vip {
        let reals = self.reals.into_iter();
        Vip {
            address,
            owner: self.owner,
            revision,
            spec: self.spec,
            reals: reals
                .map(|(id, RealRecord { owner, spec })| (id, Real { owner, spec }))
                .collect(),
        }
    }

    /// The JSON text of a VIP's record.
    pub(super) fn json(vip: &Vip) -> Value {
        let real = |real: &Real| json!({ "owner": real.owner, "spec": real.spec.to_map() });
        let reals = vip.reals.iter();
        let reals = reals.map(|(id, value)| (id.to_string(), real(value)));
        json!({
            "owner": vip.owner,
            "spec": vip.spec.to_map(),
            "reals": reals.collect::<Map<_, _>>(),
        })
    }
}

/// Converts a record of an older schema.
///
/// # Errors
/// It is not a record of that schema.
pub(super) fn upgrade(schema: u64, record: &[u8]) -> Result<Value, String> {
    let record = match schema {
        1 => from_schema_1(record)?,
        _ => serde_json::from_slice(record).map_err(|error| error.to_string())?,
    };
    from_schema_2(record)
}

/// Converts a record of schema 2, which had no owners: everything belongs to the API's callers.
fn from_schema_2(mut record: Value) -> Result<Value, String> {
    let owner = Owner::Api;
    let Some(Value::Object(reals)) = record.get_mut("reals") else {
        return Err("missing field `reals`".to_owned());
    };
    for real in reals.values_mut() {
        *real = json!({ "owner": owner, "spec": real.take() });
    }
    record["owner"] = json!(owner);
    Ok(record)
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
fn from_schema_1(record: &[u8]) -> Result<Value, String> {
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
