//! What a broker answers to CONNECT.

use std::fmt;

use bytes::BytesMut;
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::v5,
};

use super::Version;
use crate::peer::PeerError;

/// Bytes of a CONNACK at most: a few, and the properties of 5.0.
const MAX_CONNACK: usize = 16 << 10;
/// Packet type and flags of a CONNACK (MQTT 3.1.1 and 5.0, section 3.2.1).
pub(super) const CONNACK: u8 = 0x20;

/// Why a broker refused a connection: the return codes of MQTT 3.1.1 (section 3.2.2.3) and the reason codes of 5.0
/// (section 3.2.2.2) under one name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The broker does not speak this version: 1, 0x84.
    ProtocolVersion,
    /// The broker does not accept the client id: 2, 0x85.
    ClientId,
    /// The user or the password is wrong: 4, 0x86.
    UserNameOrPassword,
    /// The client may not connect: 5, 0x87.
    NotAuthorized,
    /// The client is banned: 0x8a.
    Banned,
    /// The method of authentication is not supported: 0x8c.
    AuthenticationMethod,
    /// The broker is not available: 3, 0x88.
    Unavailable,
    /// The broker is busy: 0x89.
    Busy,
    /// A quota is exceeded: 0x97.
    QuotaExceeded,
    /// The client is to use another server for now: 0x9c.
    UseAnotherServer,
    /// The client is to use another server from now on: 0x9d.
    ServerMoved,
    /// Too many clients connect per second: 0x9f.
    ConnectionRateExceeded,
    /// Any other reason of 5.0, in the words of the specification.
    Other(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Refusal::ProtocolVersion => "refused protocol version",
            Refusal::ClientId => "client identifier not valid",
            Refusal::UserNameOrPassword => "bad user name or password",
            Refusal::NotAuthorized => "not authorized",
            Refusal::Banned => "banned",
            Refusal::AuthenticationMethod => "bad authentication method",
            Refusal::Unavailable => "service unavailable",
            Refusal::Busy => "server busy",
            Refusal::QuotaExceeded => "quota exceeded",
            Refusal::UseAnotherServer => "use another server",
            Refusal::ServerMoved => "server moved",
            Refusal::ConnectionRateExceeded => "connection rate exceeded",
            Refusal::Other(words) => words,
        })
    }
}

/// What the first packet of a connection says: `Ok(())` if the broker accepted, `Err` why it refused. Returns `None`
/// if more bytes are needed.
pub(crate) fn decode(
    bytes: &mut BytesMut,
    version: Version,
) -> Result<Option<Result<(), Refusal>>, PeerError> {
    match bytes.first() {
        None => return Ok(None),
        Some(&CONNACK) => {}
        Some(first) => {
            return Err(PeerError::Protocol(format!(
                "no CONNACK but something that begins with 0x{first:02x}"
            )));
        }
    }
    match mqttbytes::check(bytes.iter(), MAX_CONNACK) {
        Ok(_) => {}
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(malformed(&error)),
    }
    // Flags and code are all that 3.1.1 has. A broker that does not know 5.0 may answer in 3.1.1 (MQTT 5.0
    // section 3.1.2.2).
    match (bytes[1], version) {
        (2, _) => decode_v311(bytes),
        (_, Version::V5) => decode_v5(bytes),
        (length, Version::V311) => Err(malformed(&format!("of length {length}"))),
    }
    .map(Some)
}

fn decode_v311(bytes: &mut BytesMut) -> Result<Result<(), Refusal>, PeerError> {
    use v4::ConnectReturnCode as Code;
    match v4::Packet::read(bytes, MAX_CONNACK) {
        Ok(v4::Packet::ConnAck(connack)) => Ok(match connack.code {
            Code::Success => Ok(()),
            Code::RefusedProtocolVersion => Err(Refusal::ProtocolVersion),
            Code::BadClientId => Err(Refusal::ClientId),
            Code::ServiceUnavailable => Err(Refusal::Unavailable),
            Code::BadUserNamePassword => Err(Refusal::UserNameOrPassword),
            Code::NotAuthorized => Err(Refusal::NotAuthorized),
        }),
        Ok(_) => Err(PeerError::Protocol("no CONNACK".to_owned())),
        Err(error) => Err(malformed(&error)),
    }
}

fn decode_v5(bytes: &mut BytesMut) -> Result<Result<(), Refusal>, PeerError> {
    match v5::Packet::read(bytes, Some(MAX_CONNACK as u32)) {
        Ok(v5::Packet::ConnAck(connack)) => Ok(refusal(connack.code).map_or(Ok(()), Err)),
        Ok(_) => Err(PeerError::Protocol("no CONNACK".to_owned())),
        Err(error) => Err(malformed(&error)),
    }
}

/// Returns `None` for acceptance.
fn refusal(code: v5::ConnectReturnCode) -> Option<Refusal> {
    use v5::ConnectReturnCode as Code;
    Some(match code {
        Code::Success => return None,
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => Refusal::ProtocolVersion,
        Code::BadClientId | Code::ClientIdentifierNotValid => Refusal::ClientId,
        Code::BadUserNamePassword => Refusal::UserNameOrPassword,
        Code::NotAuthorized => Refusal::NotAuthorized,
        Code::Banned => Refusal::Banned,
        Code::BadAuthenticationMethod => Refusal::AuthenticationMethod,
        Code::ServiceUnavailable | Code::ServerUnavailable => Refusal::Unavailable,
        Code::ServerBusy => Refusal::Busy,
        Code::QuotaExceeded => Refusal::QuotaExceeded,
        Code::UseAnotherServer => Refusal::UseAnotherServer,
        Code::ServerMoved => Refusal::ServerMoved,
        Code::ConnectionRateExceeded => Refusal::ConnectionRateExceeded,
        Code::UnspecifiedError => Refusal::Other("unspecified error"),
        Code::MalformedPacket => Refusal::Other("malformed packet"),
        Code::ProtocolError => Refusal::Other("protocol error"),
        Code::ImplementationSpecificError => Refusal::Other("implementation specific error"),
        Code::TopicNameInvalid => Refusal::Other("topic name invalid"),
        Code::PacketTooLarge => Refusal::Other("packet too large"),
        Code::PayloadFormatInvalid => Refusal::Other("payload format invalid"),
        Code::RetainNotSupported => Refusal::Other("retain not supported"),
        Code::QoSNotSupported => Refusal::Other("QoS not supported"),
    })
}

fn malformed(error: &impl fmt::Display) -> PeerError {
    PeerError::Protocol(format!("a malformed CONNACK ({error})"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(hex: &str, version: Version) -> Result<Option<Result<(), Refusal>>, PeerError> {
        decode(&mut BytesMut::from(&hex::decode(hex).unwrap()[..]), version)
    }

    #[test]
    fn a_broker_that_speaks_only_the_old_version_is_understood() {
        let refusal = answer("20020001", Version::V5)
            .unwrap()
            .unwrap()
            .unwrap_err();
        assert_eq!(refusal, Refusal::ProtocolVersion);
        assert_eq!(refusal.to_string(), "refused protocol version");
    }

    #[test]
    fn bytes_that_are_no_connack_are_rejected() {
        for (hex, says) in [
            // A PUBLISH, "HTTP", a SUBACK, reserved flags.
            ("300300016100", "begins with 0x30"),
            ("48545450", "begins with 0x48"),
            ("90020001", "begins with 0x90"),
            ("21020000", "begins with 0x21"),
            ("20020006", "malformed"),
            ("200100", "malformed"),
            ("2003000000", "malformed"),
            ("2000", "malformed"),
            ("20ffffff7f", "malformed"),
            ("20ffffffff7f", "malformed"),
        ] {
            let error = answer(hex, Version::V311).unwrap_err().to_string();
            assert!(error.contains(says), "{hex}: {error}");
        }
        // No such code, properties that are longer than the packet, no properties.
        for hex in ["2003000100", "200300007f", "20020006"] {
            let error = answer(hex, Version::V5).unwrap_err().to_string();
            assert!(error.contains("malformed"), "{hex}: {error}");
        }
    }

    #[test]
    fn a_partial_connack_waits_for_the_rest() {
        for hex in ["", "20", "2002", "200200"] {
            assert_eq!(answer(hex, Version::V311), Ok(None), "{hex}");
            assert_eq!(answer(hex, Version::V5), Ok(None), "{hex}");
        }
    }

    #[test]
    fn what_follows_a_connack_stays() {
        for version in [Version::V311, Version::V5] {
            let mut bytes = BytesMut::from(&b"\x20\x02\0\0\x30\x01"[..]);
            assert_eq!(decode(&mut bytes, version), Ok(Some(Ok(()))));
            assert_eq!(&bytes[..], b"\x30\x01");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(mut bytes in prop::collection::vec(any::<u8>(), 1..64), connack: bool) {
            if connack {
                bytes[0] = CONNACK;
            }
            let _ = decode(&mut BytesMut::from(&bytes[..]), Version::V311);
            let _ = decode(&mut BytesMut::from(&bytes[..]), Version::V5);
        }
    }
}
