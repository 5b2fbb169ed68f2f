//! Real clients, and what they saw.

mod histogram;
mod http;
mod load;
mod mqtt;
mod numbers;
mod udp;

pub use histogram::Histogram;
pub use http::{Connections, HttpPlan, download, get, http_load};
pub use load::{Load, LoadReport};
pub use mqtt::{MqttPlan, mqtt_load};
pub use numbers::{NumberPlan, Numbers};
pub use udp::udp_exchange;
