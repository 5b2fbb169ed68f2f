//! Requests that change a VIP or a real as patches of their settings.

use lb_model::{
    intent::{Patch, RealSpec, Refusal, VipSpec},
    settings::{Settings, Value},
};
use lb_proto::{settings, v1};
use prost::{Message, Name};

/// Every setting of a table in `update_mask`.
const ALL: &str = "*";

/// Settings of a VIP to change.
pub fn vip_patch(
    spec: Option<v1::VipSpec>,
    mask: Option<prost_types::FieldMask>,
) -> Result<Patch, Refusal> {
    patch::<_, VipSpec>(spec, mask)
}

/// Settings of a real to change.
pub fn real_patch(
    spec: Option<v1::RealSpec>,
    mask: Option<prost_types::FieldMask>,
) -> Result<Patch, Refusal> {
    patch::<_, RealSpec>(spec, mask)
}

/// The fields that are set, or those that the mask names: one that is not set resets its setting to the default.
fn patch<M: Message + Name + Default, T: Settings>(
    spec: Option<M>,
    mask: Option<prost_types::FieldMask>,
) -> Result<Patch, Refusal> {
    let fields = T::fields();
    let mut set = settings::to_map(&spec.unwrap_or_default(), &fields)
        .map_err(|error| error.within("spec"))?;
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        return Ok(set);
    }
    let known = |path: &String| path == ALL || fields.iter().any(|field| field.name == path);
    if let Some(unknown) = paths.iter().find(|path| !known(path)) {
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        return Err(Refusal::invalid(
            "update_mask",
            unknown,
            format!(
                "no field that can be changed, give some of: {}",
                names.join(", ")
            ),
        ));
    }
    Ok(fields
        .iter()
        .filter(|field| paths.iter().any(|path| path == ALL || path == field.name))
        .map(|field| {
            let value = set.remove(field.name).unwrap_or(Value::Null);
            (field.name.to_owned(), value)
        })
        .collect())
}

/// Refuses a change that names no field: the caller forgot one.
pub fn not_empty(patch: Patch) -> Result<Patch, Refusal> {
    if patch.is_empty() {
        return Err(Refusal::invalid(
            "spec",
            "no field is set",
            "set those to change, or name them in update_mask",
        ));
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
        Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        })
    }

    #[test]
    fn a_mask_chooses_and_resets() {
        let spec = || {
            Some(v1::RealSpec {
                weight: Some(7),
                drained: Some(true),
                ..Default::default()
            })
        };
        for (paths, patch) in [
            (mask(&[]), json!({ "weight": 7, "drained": true })),
            (mask(&["weight"]), json!({ "weight": 7 })),
            (
                mask(&["load", "weight"]),
                json!({ "load": null, "weight": 7 }),
            ),
            (
                mask(&["*"]),
                json!({
                    "weight": 7, "mode": null, "drained": true, "evacuated": null, "server_id": null, "check": null,
                    "load": null
                }),
            ),
        ] {
            let read = real_patch(spec(), paths).unwrap();
            assert_eq!(Value::Object(read), patch);
        }
        let refusal = real_patch(spec(), mask(&["wieght"])).unwrap_err();
        assert!(
            refusal.to_string().starts_with("update_mask: wieght"),
            "{refusal}"
        );
    }

    #[test]
    fn components_keep_their_settings() {
        let check = settings::component_from_map(
            json!({ "kind": "http", "interval": "2s", "port": 81 })
                .as_object()
                .unwrap()
                .clone(),
            "kind",
        );
        let spec = v1::VipSpec {
            check: Some(check),
            ..Default::default()
        };
        let patch = vip_patch(Some(spec), None).unwrap();
        assert_eq!(
            Value::Object(patch),
            json!({ "check": { "kind": "http", "interval": "2s", "port": 81 } })
        );
    }
}
