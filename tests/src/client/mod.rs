//! Real clients, and what they record.

mod devices;
mod exchange;
mod flood;
mod histogram;
mod http;
mod load;
mod mqtt;
mod numbers;
mod sender;
mod udp;

use std::time::Duration;

/// A request that takes longer has failed. A lost packet is retransmitted within a second or two; the rest is a reserve
/// for an overloaded machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

pub use devices::{DevicePlan, Devices, Outage};
pub use exchange::exchange;
pub use flood::{Flood, FloodKind, FloodPlan};
pub use histogram::Histogram;
pub use http::{
    Connections, HttpPlan, download, get, http_load, numbered_http_load, page, post, unanswered,
};
pub use load::{Failure, Load, LoadReport};
pub use mqtt::{MqttPlan, mqtt_load};
pub use numbers::{NumberPlan, Numbers};
pub use udp::udp_exchange;
