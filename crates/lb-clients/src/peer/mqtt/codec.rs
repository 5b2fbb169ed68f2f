//! Both versions of the protocol behind one form of packet.

use std::fmt::Display;

use bytes::{Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{Error, QoS, v4},
    v5::mqttbytes::{Error as Error5, QoS as QoS5, v5},
};

use super::Version;
use crate::peer::PeerError;

/// Bytes of a packet at most, in either direction: `$SYS` messages are far below 1 KiB, and reports of load are not
/// much longer.
pub const MAX_PACKET: usize = 64 << 10;

/// A message that the broker delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic it was published on.
    pub topic: String,
    /// The content.
    pub payload: Bytes,
    /// Whether the broker had stored it before the subscription: its age is unknown then.
    pub retained: bool,
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Publish(Message),
    /// The id of a message that was published, and why the broker refused it.
    PublishAck(u16, Option<String>),
    /// The id of a subscription, and whether the broker granted it.
    SubscribeAck(u16, bool),
    Pong,
    /// MQTT 5.0 only: the broker ends the session, for this reason.
    Disconnect(String),
    /// A packet that a client with one subscription of QoS 0 has no use for.
    Other,
}

/// A packet to the broker.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    /// QoS 1.
    Publish {
        id: u16,
        topic: &'a str,
        payload: Bytes,
        retain: bool,
    },
    /// QoS 0.
    Subscribe {
        id: u16,
        filter: &'a str,
    },
    Ping,
    Disconnect,
}

/// Appends the packet to `bytes`.
pub(super) fn encode(
    request: Request<'_>,
    version: Version,
    bytes: &mut BytesMut,
) -> Result<(), PeerError> {
    match version {
        Version::V311 => encode_v311(request)
            .write(bytes, MAX_PACKET)
            .map_err(unwritable),
        Version::V5 => encode_v5(request)
            .write(bytes, Some(MAX_PACKET as u32))
            .map_err(unwritable),
    }?;
    Ok(())
}

fn encode_v311(request: Request<'_>) -> v4::Packet {
    match request {
        Request::Publish {
            id,
            topic,
            payload,
            retain,
        } => {
            let mut publish = v4::Publish::from_bytes(topic, QoS::AtLeastOnce, payload);
            publish.pkid = id;
            publish.retain = retain;
            v4::Packet::Publish(publish)
        }
        Request::Subscribe { id, filter } => {
            let mut subscribe = v4::Subscribe::new(filter, QoS::AtMostOnce);
            subscribe.pkid = id;
            v4::Packet::Subscribe(subscribe)
        }
        Request::Ping => v4::Packet::PingReq,
        Request::Disconnect => v4::Packet::Disconnect,
    }
}

fn encode_v5(request: Request<'_>) -> v5::Packet {
    match request {
        Request::Publish {
            id,
            topic,
            payload,
            retain,
        } => {
            let mut publish = v5::Publish::new(topic, QoS5::AtLeastOnce, payload, None);
            publish.pkid = id;
            publish.retain = retain;
            v5::Packet::Publish(publish)
        }
        Request::Subscribe { id, filter } => {
            let filter = v5::Filter::new(filter, QoS5::AtMostOnce);
            let mut subscribe = v5::Subscribe::new(filter, None);
            subscribe.pkid = id;
            v5::Packet::Subscribe(subscribe)
        }
        Request::Ping => v5::Packet::PingReq(v5::PingReq),
        Request::Disconnect => v5::Packet::Disconnect(v5::Disconnect::new(
            v5::DisconnectReasonCode::NormalDisconnection,
        )),
    }
}

/// Takes the first packet from `bytes`. Returns `None` if it is not complete.
pub(super) fn decode(bytes: &mut BytesMut, version: Version) -> Result<Option<Packet>, PeerError> {
    match version {
        Version::V311 => decode_v311(bytes),
        Version::V5 => decode_v5(bytes),
    }
}

fn decode_v311(bytes: &mut BytesMut) -> Result<Option<Packet>, PeerError> {
    let packet = match v4::Packet::read(bytes, MAX_PACKET) {
        Ok(packet) => packet,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded(_)) => {
            return Err(PeerError::TooLong { limit: MAX_PACKET });
        }
        Err(error) => return Err(unreadable("3.1.1", &error)),
    };
    Ok(Some(match packet {
        v4::Packet::Publish(publish) => Packet::Publish(Message {
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
        }),
        v4::Packet::PubAck(ack) => Packet::PublishAck(ack.pkid, None),
        v4::Packet::SubAck(ack) => Packet::SubscribeAck(
            ack.pkid,
            ack.return_codes
                .iter()
                .all(|code| matches!(code, v4::SubscribeReasonCode::Success(_))),
        ),
        v4::Packet::PingResp => Packet::Pong,
        _ => Packet::Other,
    }))
}

fn decode_v5(bytes: &mut BytesMut) -> Result<Option<Packet>, PeerError> {
    // The codec wants a payload; the specification lets a normal disconnection have none (MQTT 5.0 section 3.14.2.1).
    const EMPTY_DISCONNECT: &[u8] = &[0xe0, 0];
    if bytes.starts_with(EMPTY_DISCONNECT) {
        let _ = bytes.split_to(EMPTY_DISCONNECT.len());
        return Ok(Some(Packet::Disconnect("normal disconnection".to_owned())));
    }
    let packet = match v5::Packet::read(bytes, Some(MAX_PACKET as u32)) {
        Ok(packet) => packet,
        Err(Error5::InsufficientBytes(_)) => return Ok(None),
        Err(Error5::PayloadSizeLimitExceeded { .. }) => {
            return Err(PeerError::TooLong { limit: MAX_PACKET });
        }
        Err(error) => return Err(unreadable("5.0", &error)),
    };
    Ok(Some(match packet {
        v5::Packet::Publish(publish) => Packet::Publish(Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            retained: publish.retain,
        }),
        v5::Packet::PubAck(ack) => {
            use v5::PubAckReason::{NoMatchingSubscribers, Success};
            let refused = !matches!(ack.reason, Success | NoMatchingSubscribers);
            Packet::PublishAck(ack.pkid, refused.then(|| words(&ack.reason)))
        }
        v5::Packet::SubAck(ack) => Packet::SubscribeAck(
            ack.pkid,
            ack.return_codes
                .iter()
                .all(|code| matches!(code, v5::SubscribeReasonCode::Success(_))),
        ),
        v5::Packet::PingResp(_) => Packet::Pong,
        v5::Packet::Disconnect(disconnect) => Packet::Disconnect(words(&disconnect.reason_code)),
        _ => Packet::Other,
    }))
}

/// `NotAuthorized` → `not authorized`: the codec names its reasons as the specification does.
fn words(name: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    for character in format!("{name:?}").chars() {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

fn unwritable(error: impl Display) -> PeerError {
    PeerError::Request(error.to_string())
}

fn unreadable(version: &str, error: &impl Display) -> PeerError {
    PeerError::Protocol(format!("no MQTT {version} ({error})"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

    #[test]
    fn long_packets_are_refused_before_they_are_read() {
        for version in VERSIONS {
            // A PUBLISH of 256 MB.
            let mut input = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]);
            assert_eq!(
                decode(&mut input, version).unwrap_err(),
                PeerError::TooLong { limit: MAX_PACKET }
            );
        }
    }

    #[test]
    fn the_end_of_a_session_is_understood() {
        for (bytes, reason) in [
            (&b"\xe0\0"[..], "normal disconnection"),
            (b"\xe0\x02\x8b\0", "server shutting down"),
        ] {
            let packet = decode(&mut BytesMut::from(bytes), Version::V5).unwrap();
            assert_eq!(packet, Some(Packet::Disconnect(reason.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0u8..16, flags in 0u8..16) {
            for version in VERSIONS {
                let _ = decode(&mut BytesMut::from(&bytes[..]), version);
                let length = bytes.len() as u8;
                let mut input = BytesMut::from(&[kind << 4 | flags, length][..]);
                input.extend_from_slice(&bytes);
                let _ = decode(&mut input, version);
            }
        }
    }
}
