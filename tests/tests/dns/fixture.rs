//! Settings and names that the tests share.

use lb_dns::{Addresses, DnsSpec, RecordName};

/// The zone.
pub const ZONE: &str = "lb.example.com";

pub fn record(name: &str) -> RecordName {
    name.parse().unwrap()
}

pub fn addresses(texts: &[&str]) -> Addresses {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Reads settings.
pub fn spec(settings: serde_json::Value) -> DnsSpec {
    let mut map = serde_json::json!({ "zone": ZONE });
    for (name, value) in settings.as_object().unwrap() {
        map[name] = value.clone();
    }
    lb_model::settings::from_map(map.as_object().unwrap()).unwrap()
}
