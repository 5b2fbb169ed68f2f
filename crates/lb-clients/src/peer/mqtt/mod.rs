//! An MQTT client over a [`Stream`](super::Stream): probes, load readers and the reporter share it.
//!
//! The packets are rumqttc's codec. Its client is not used: it brings a TLS stack of its own, reconnects by rules
//! of its own and queues without a bound that suits a daemon. A [`Session`] bounds the length of packets, the time
//! of every exchange and what it queues.
//!
//! | file | holds |
//! |---|---|
//! | `connect` | what a client says when it connects |
//! | `connack` | what the broker answers, as a [`Refusal`] or acceptance |
//! | `codec` | both protocol versions behind one form of packet |
//! | `session` | the connection: publish, subscribe, receive, keep-alive |

mod codec;
mod connack;
mod connect;
mod session;
#[cfg(test)]
mod tests;

pub use codec::{MAX_PACKET, Message};
pub use connack::Refusal;
#[cfg(test)]
pub(crate) use connack::decode as decode_connack;
pub use connect::{Connect, Login, Will, random_client_id};
pub use session::Session;

lb_model::choice! {
    /// A version of the protocol.
    pub enum Version = V311 {
        /// 3.1.1, which every broker speaks.
        V311 = "3.1.1",
        /// 5.0, in which a broker can ask its clients to use another server.
        V5 = "5.0" | "5",
    }
}
