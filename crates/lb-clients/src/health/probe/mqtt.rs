//! An MQTT CONNECT, and what the CONNACK says about the broker.
//!
//! A frozen broker completes the TCP handshake and sends no CONNACK, so only this finds it. The probe has a
//! client id of its own, asks for a clean session, and sends DISCONNECT.
//!
//! | | 3.1.1 return code | 5.0 reason code |
//! |---|---|---|
//! | healthy: accepts, or refuses this client only | 0, 1, 2, 4, 5 | 0x00, 0x84–0x87, 0x8a, 0x8c |
//! | to be drained: "not now", "use another server" | 3 | 0x88, 0x89, 0x97, 0x9c, 0x9d, 0x9f |
//! | unhealthy: anything else, garbage, silence, a reset | | |
//!
//! With `expect = "accepted"` a broker that refuses this client is unhealthy; one that is to be drained still is.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::OnceLock,
    time::Duration,
};

use lb_model::{
    peer::{Secret, Tls},
    settings::FieldError,
    vip::{RealId, VipKey},
};

use tokio::time::Instant;

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::Verdict;
use crate::peer::{
    Closing, TlsClient,
    mqtt::{Connect, Login, Refusal, Session, Version},
    tls,
};

/// The keep-alive of the reference implementation.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the broker has to close the connection after DISCONNECT, before it is reset. A reset that follows at once
/// might make the broker log an error instead of the goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

pub(super) static KIND: ProbeKind = ProbeKind::of::<MqttProbe>(
    "mqtt",
    "Connects as an MQTT client and judges the CONNACK. A frozen broker is found, because it sends none.",
);

lb_model::settings! {
    /// An MQTT CONNECT.
    #[derive(Eq, Default)]
    pub struct Mqtt {
        /// Version of the protocol.
        version: Version = Version::V311;
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
        /// User name; without it the client is anonymous.
        username: Option<String> = None;
        /// Place of the password; goes with `username`.
        password: Option<Secret> = None;
        /// Answers that make the broker healthy.
        expect: Expect = Expect::Any;
    }
    validate(mqtt) {
        if mqtt.username.is_none() && mqtt.password.is_some() {
            return Err(FieldError::missing("username", "give the user of the password"));
        }
        tls::validate(mqtt.tls.as_ref())
    }
}

lb_model::choice! {
    /// Which answers of a broker make it healthy.
    pub enum Expect = Any {
        /// That it answers: one that refuses the login is healthy, too.
        Any = "any",
        /// That it accepts the connection.
        Accepted = "accepted",
    }
}

/// A client id that no other probe has, of this balancer or another, and that stays the same for a VIP and a real.
/// 18 letters and digits, of the 23 that every broker takes (MQTT 3.1.1 section 3.1.3.1).
#[must_use]
pub fn client_id(vip: &VipKey, real: RealId) -> String {
    /// A random number of this process.
    static PROCESS: OnceLock<u64> = OnceLock::new();
    let mut hasher = DefaultHasher::new();
    PROCESS
        .get_or_init(|| getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)))
        .hash(&mut hasher);
    (vip.to_string(), real).hash(&mut hasher);
    format!("lb{:016x}", hasher.finish())
}

/// Connects as a client over a connection of its own.
#[derive(Debug)]
struct MqttProbe {
    settings: Mqtt,
    tls: Option<TlsClient>,
}

impl Probe for MqttProbe {
    type Settings = Mqtt;

    fn new(settings: Mqtt) -> Self {
        MqttProbe {
            tls: TlsClient::of(settings.tls.as_ref(), &[]),
            settings,
        }
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let Attempt {
            vip,
            real,
            target,
            deadline,
            answered,
        } = *attempt;
        let connect = Connect {
            version: self.settings.version,
            client_id: client_id(vip, real),
            keep_alive: KEEP_ALIVE,
            login: self.settings.username.clone().map(|username| Login {
                username,
                password: self.settings.password.clone(),
            }),
            will: None,
        };
        let session = Session::open_until(
            target,
            self.tls.as_mut(),
            Closing::Reset,
            &connect,
            deadline,
        )
        .await?;
        let _ = answered.set(Instant::now());
        Ok(match session {
            Ok(session) => {
                // Whether the goodbye arrives says nothing about the broker.
                let _ = session.leave(GOODBYE, deadline).await;
                (Verdict::Healthy, "accepted".to_owned())
            }
            Err(refusal) => (
                judge(refusal, self.settings.expect),
                format!("refused: {refusal}"),
            ),
        })
    }
}

/// What a refusal says about the broker.
fn judge(refusal: Refusal, expect: Expect) -> Verdict {
    match refusal {
        Refusal::ProtocolVersion
        | Refusal::ClientId
        | Refusal::UserNameOrPassword
        | Refusal::NotAuthorized
        | Refusal::Banned
        | Refusal::AuthenticationMethod => match expect {
            Expect::Any => Verdict::Healthy,
            Expect::Accepted => Verdict::Unhealthy,
        },
        Refusal::Unavailable
        | Refusal::Busy
        | Refusal::QuotaExceeded
        | Refusal::UseAnotherServer
        | Refusal::ServerMoved
        | Refusal::ConnectionRateExceeded => Verdict::Drain,
        Refusal::Other(_) => Verdict::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::mqtt::decode_connack;

    fn verdict(hex: &str, version: Version) -> (bool, Verdict) {
        match decode_connack(&mut hex::decode(hex).unwrap()[..].into(), version) {
            Ok(Some(Ok(()))) => (true, Verdict::Healthy),
            Ok(Some(Err(refusal))) => (false, judge(refusal, Expect::Any)),
            other => panic!("{hex}: {other:?}"),
        }
    }

    /// The packets of the reference were recorded at a live broker.
    #[test]
    fn connacks_are_judged_by_the_rules() {
        use Verdict::{Drain, Healthy, Unhealthy};
        for (code, expected) in [
            (0, Healthy),
            (1, Healthy),
            (2, Healthy),
            (3, Drain),
            (4, Healthy),
            (5, Healthy),
        ] {
            assert_eq!(
                verdict(&format!("200200{code:02x}"), Version::V311),
                (code == 0, expected),
                "3.1.1 code {code}"
            );
        }
        for (codes, expected) in [
            (&[0x00, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x8c][..], Healthy),
            (&[0x88, 0x89, 0x97, 0x9c, 0x9d, 0x9f], Drain),
            (
                &[0x80, 0x81, 0x82, 0x83, 0x90, 0x95, 0x99, 0x9a, 0x9b],
                Unhealthy,
            ),
        ] {
            for code in codes {
                assert_eq!(
                    verdict(&format!("200300{code:02x}00"), Version::V5),
                    (*code == 0, expected),
                    "5.0 code {code:#x}"
                );
            }
        }
        // A broker that speaks 3.1.1 only answers a 5.0 client in 3.1.1.
        assert_eq!(verdict("20020001", Version::V5), (false, Healthy));
    }

    #[test]
    fn a_login_that_is_refused_counts_as_expected() {
        use Verdict::{Drain, Healthy, Unhealthy};
        for (refusal, any, accepted) in [
            (Refusal::NotAuthorized, Healthy, Unhealthy),
            (Refusal::Busy, Drain, Drain),
            (Refusal::Other("packet too large"), Unhealthy, Unhealthy),
        ] {
            assert_eq!(judge(refusal, Expect::Any), any, "{refusal}");
            assert_eq!(judge(refusal, Expect::Accepted), accepted, "{refusal}");
        }
    }

    #[test]
    fn client_ids_are_short_and_their_own() {
        let vip: VipKey = "10.0.0.1:1883/tcp".parse().unwrap();
        let other: VipKey = "10.0.0.1:8883/tcp".parse().unwrap();
        let real = "10.1.0.2".parse().unwrap();
        let id = client_id(&vip, real);
        assert!(id.len() <= 23 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(id, client_id(&vip, real));
        assert_ne!(id, client_id(&other, real));
        assert_ne!(id, client_id(&vip, "10.1.0.3".parse().unwrap()));
    }
}
