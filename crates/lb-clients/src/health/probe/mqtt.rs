//! An MQTT CONNECT, and what the CONNACK says of the broker.
//!
//! A frozen broker completes the TCP handshake and sends no CONNACK, so only this finds it. The prober has a
//! client id of its own, wants no session, and says DISCONNECT.
//!
//! | | 3.1.1 return code | 5.0 reason code |
//! |---|---|---|
//! | alive: it accepts, or refuses this client for what it is | 0, 1, 2, 4, 5 | 0x00, 0x84–0x87, 0x8a, 0x8c |
//! | alive, and to be drained: "not now", "use another server" | 3 | 0x88, 0x89, 0x97, 0x9c, 0x9d, 0x9f |
//! | dead: anything else, garbage, silence, a reset | | |
//!
//! With `expect = "accepted"` only acceptance is good; a broker to be drained still is.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::OnceLock,
};

use bytes::BytesMut;
use lb_model::vip::VipAddress;
use rumqttc::{
    mqttbytes::{self, v4},
    v5::mqttbytes::v5,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Finding;
use crate::health::{
    Verdict,
    spec::{Expect, Mqtt, Version},
};
use crate::peer::{Deadline, PeerError, Stream, Target, TlsClient};

/// Seconds; the reference's.
const KEEP_ALIVE: u16 = 10;
/// Bytes of a CONNACK at most: a few, and the properties of 5.0.
const MAX_CONNACK: usize = 16 << 10;
/// Packet type and flags of a CONNACK: MQTT 3.1.1 and 5.0, section 3.2.1.
const CONNACK: u8 = 0x20;
const CONNECT: &str = "sending CONNECT";
const WAITING: &str = "waiting for CONNACK";

/// A client id that no other prober has: not this one for another real or VIP, and no other balancer.
/// 18 letters and digits, of the 23 that every broker takes (MQTT 3.1.1 section 3.1.3.1).
#[must_use]
pub fn client_id(vip: &VipAddress, real: IpAddr) -> String {
    /// Random in each process.
    static PROCESS: OnceLock<RandomState> = OnceLock::new();
    let hash = PROCESS
        .get_or_init(RandomState::new)
        .hash_one((vip.to_string(), real));
    format!("lb{hash:016x}")
}

/// Connects as a client once.
pub async fn probe(
    spec: &Mqtt,
    client_id: String,
    target: &Target,
    tls: Option<&mut TlsClient>,
    deadline: &Deadline,
) -> Finding {
    let connect = connect(spec, client_id, deadline).await?;
    let mut stream = Stream::open(target, tls, deadline).await?;
    let finding = deadline
        .bound(WAITING, async {
            stream
                .write_all(&connect)
                .await
                .map_err(|error| PeerError::io(CONNECT, &error))?;
            stream
                .flush()
                .await
                .map_err(|error| PeerError::io(CONNECT, &error))?;
            read_connack(&mut stream, spec.version).await
        })
        .await?;
    if finding.accepted {
        leave(&mut stream, spec.version, deadline).await;
    }
    Ok(finding.judged(spec.expect))
}

async fn connect(
    spec: &Mqtt,
    client_id: String,
    deadline: &Deadline,
) -> Result<BytesMut, PeerError> {
    let password = match &spec.password {
        Some(secret) => secret.read(deadline).await?.expose().to_owned(),
        None => String::new(),
    };
    let login = spec.username.clone().map(|username| (username, password));
    let mut bytes = BytesMut::new();
    match spec.version {
        Version::V311 => {
            let mut connect = v4::Connect::new(client_id);
            connect.keep_alive = KEEP_ALIVE;
            if let Some((username, password)) = login {
                connect.set_login(username, password);
            }
            connect.write(&mut bytes).map_err(unwritable)?;
        }
        Version::V5 => {
            let connect = v5::Connect {
                keep_alive: KEEP_ALIVE,
                client_id,
                clean_start: true,
                properties: None,
            };
            let login = login.map(|(username, password)| v5::Login { username, password });
            connect
                .write(&None, &login, &mut bytes)
                .map_err(unwritable)?;
        }
    }
    Ok(bytes)
}

fn unwritable(error: impl std::fmt::Debug) -> PeerError {
    PeerError::Request(format!("the CONNECT packet: {error:?}"))
}

/// What a broker answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    accepted: bool,
    verdict: Verdict,
    reason: String,
}

impl Answer {
    fn new(code: impl std::fmt::Debug, accepted: bool, verdict: Verdict) -> Self {
        let reason = if accepted {
            "accepted".to_owned()
        } else {
            format!("refused: {}", words(&format!("{code:?}")))
        };
        Answer {
            accepted,
            verdict,
            reason,
        }
    }

    fn judged(self, expect: Expect) -> (Verdict, String) {
        match (expect, self.verdict) {
            (Expect::Accepted, Verdict::Healthy) if !self.accepted => {
                (Verdict::Unhealthy, self.reason)
            }
            (_, verdict) => (verdict, self.reason),
        }
    }
}

/// `NotAuthorized` → `not authorized`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

async fn read_connack(stream: &mut Stream, version: Version) -> Result<Answer, PeerError> {
    let mut bytes = BytesMut::with_capacity(64);
    loop {
        let length = stream
            .read_buf(&mut bytes)
            .await
            .map_err(|error| PeerError::io(WAITING, &error))?;
        if length == 0 {
            return Err(PeerError::Closed(WAITING));
        }
        if let Some(answer) = decode(&bytes, version)? {
            return Ok(answer);
        }
    }
}

/// What the bytes say; none if more of them are needed.
fn decode(bytes: &[u8], version: Version) -> Result<Option<Answer>, PeerError> {
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
        (2, _) => decode_v4(bytes),
        (_, Version::V5) => decode_v5(bytes),
        (length, Version::V311) => Err(malformed(&format!("of length {length}"))),
    }
    .map(Some)
}

fn decode_v4(bytes: &[u8]) -> Result<Answer, PeerError> {
    use v4::ConnectReturnCode as Code;
    match v4::Packet::read(&mut BytesMut::from(bytes), MAX_CONNACK) {
        Ok(v4::Packet::ConnAck(connack)) => {
            let verdict = match connack.code {
                Code::Success
                | Code::RefusedProtocolVersion
                | Code::BadClientId
                | Code::BadUserNamePassword
                | Code::NotAuthorized => Verdict::Healthy,
                Code::ServiceUnavailable => Verdict::Drain,
            };
            let accepted = connack.code == Code::Success;
            Ok(Answer::new(connack.code, accepted, verdict))
        }
        Ok(_) => Err(PeerError::Protocol("no CONNACK".to_owned())),
        Err(error) => Err(malformed(&error)),
    }
}

fn decode_v5(bytes: &[u8]) -> Result<Answer, PeerError> {
    use v5::ConnectReturnCode as Code;
    match v5::Packet::read(&mut BytesMut::from(bytes), Some(MAX_CONNACK as u32)) {
        Ok(v5::Packet::ConnAck(connack)) => {
            let verdict = match connack.code {
                Code::Success
                | Code::UnsupportedProtocolVersion
                | Code::ClientIdentifierNotValid
                | Code::BadUserNamePassword
                | Code::NotAuthorized
                | Code::Banned
                | Code::BadAuthenticationMethod => Verdict::Healthy,
                Code::ServerUnavailable
                | Code::ServerBusy
                | Code::QuotaExceeded
                | Code::UseAnotherServer
                | Code::ServerMoved
                | Code::ConnectionRateExceeded => Verdict::Drain,
                _ => Verdict::Unhealthy,
            };
            let accepted = connack.code == Code::Success;
            Ok(Answer::new(connack.code, accepted, verdict))
        }
        Ok(_) => Err(PeerError::Protocol("no CONNACK".to_owned())),
        Err(error) => Err(malformed(&error)),
    }
}

fn malformed(error: &impl std::fmt::Display) -> PeerError {
    PeerError::Protocol(format!("a malformed CONNACK ({error})"))
}

/// Ends the session as a client should, so that the broker logs no lost connection. Whether that works says
/// nothing of the broker.
async fn leave(stream: &mut Stream, version: Version, deadline: &Deadline) {
    let mut bytes = BytesMut::new();
    let written = match version {
        Version::V311 => v4::Disconnect.write(&mut bytes).is_ok(),
        Version::V5 => v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection)
            .write(&mut bytes)
            .is_ok(),
    };
    if written {
        let _ = deadline
            .bound("sending DISCONNECT", async {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                Ok(())
            })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(hex: &str, version: Version) -> Result<Option<Answer>, PeerError> {
        decode(&hex::decode(hex).unwrap(), version)
    }

    /// The packets of the reference were recorded at a live broker.
    #[test]
    fn connacks_are_judged_by_the_rules() {
        use Verdict::{Drain, Healthy, Unhealthy};
        for (code, verdict) in [
            (0, Healthy),
            (1, Healthy),
            (2, Healthy),
            (3, Drain),
            (4, Healthy),
            (5, Healthy),
        ] {
            let answer = answer(&format!("200200{code:02x}"), Version::V311)
                .unwrap()
                .unwrap();
            assert_eq!(answer.verdict, verdict, "3.1.1 code {code}");
            assert_eq!(answer.accepted, code == 0);
        }
        for (codes, verdict) in [
            (&[0x00, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c][..], Healthy),
            (&[0x88, 0x89, 0x97, 0x9c, 0x9d, 0x9f], Drain),
            (
                &[0x80, 0x81, 0x82, 0x83, 0x90, 0x95, 0x99, 0x9a, 0x9b],
                Unhealthy,
            ),
        ] {
            for code in codes {
                let answer = answer(&format!("200300{code:02x}00"), Version::V5)
                    .unwrap()
                    .unwrap();
                assert_eq!(answer.verdict, verdict, "5.0 code {code:#x}");
                assert_eq!(answer.accepted, *code == 0);
            }
        }
    }

    #[test]
    fn what_is_expected_counts() {
        let login = |expect| {
            let answer = answer("20020005", Version::V311).unwrap().unwrap();
            answer.judged(expect)
        };
        let reason = "refused: not authorized".to_owned();
        assert_eq!(login(Expect::Any), (Verdict::Healthy, reason.clone()));
        assert_eq!(login(Expect::Accepted), (Verdict::Unhealthy, reason));
        let busy = answer("2003008900", Version::V5).unwrap().unwrap();
        assert_eq!(busy.judged(Expect::Accepted).0, Verdict::Drain);
    }

    #[test]
    fn a_broker_of_old_is_understood() {
        let answer = answer("20020001", Version::V5).unwrap().unwrap();
        assert_eq!(answer.verdict, Verdict::Healthy);
        assert_eq!(answer.reason, "refused: refused protocol version");
    }

    #[test]
    fn what_is_no_connack_is_dead() {
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
    fn a_part_is_waited_for() {
        for hex in ["", "20", "2002", "200200"] {
            assert_eq!(answer(hex, Version::V311), Ok(None), "{hex}");
            assert_eq!(answer(hex, Version::V5), Ok(None), "{hex}");
        }
    }

    #[test]
    fn client_ids_are_short_and_their_own() {
        let vip: VipAddress = "10.0.0.1:1883/tcp".parse().unwrap();
        let other: VipAddress = "10.0.0.1:8883/tcp".parse().unwrap();
        let real = "10.1.0.2".parse().unwrap();
        let id = client_id(&vip, real);
        assert!(id.len() <= 23 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(id, client_id(&vip, real));
        assert_ne!(id, client_id(&other, real));
        assert_ne!(id, client_id(&vip, "10.1.0.3".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(mut bytes in prop::collection::vec(any::<u8>(), 1..64), connack: bool) {
            if connack {
                bytes[0] = CONNACK;
            }
            let _ = decode(&bytes, Version::V311);
            let _ = decode(&bytes, Version::V5);
        }
    }
}
