//! A datagram and its answer. The socket is connected, so that it receives the answers of the peer only, and "port
//! unreachable" as an error.

mod octets;
mod refusals;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use tokio::net::UdpSocket;

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::{Verdict, outcome::line};
use crate::peer::{PeerError, Target, descriptors};
use lb_model::duration;
pub use octets::Octets;

const WAITING: &str = "waiting for an answer";
/// Bytes of an answer that are looked at.
const MAX_ANSWER: usize = 4 << 10;
/// Characters of an answer that a reason repeats.
const MAX_QUOTED: usize = 80;

pub(super) static KIND: ProbeKind =
    ProbeKind::of::<UdpProbe>("udp", "Sends a datagram and waits for the answer.");

lb_model::settings! {
    /// A datagram.
    #[derive(Eq, Default)]
    pub struct Udp {
        /// What is sent.
        payload: Octets;
        /// What the answer must hold; any answer holds the empty text.
        expect: Octets = Octets::default();
        /// For servers that never answer: silence is healthy, and only "port unreachable" is not. A host sends few of
        /// these, so one holds until the host would have sent the next.
        silence_is_alive: bool = false;
    }
}

/// Sends the payload once; the thresholds make up for datagrams that are lost.
#[derive(Debug)]
struct UdpProbe {
    settings: Udp,
    port: refusals::Port,
}

impl Probe for UdpProbe {
    type Settings = Udp;

    fn new(settings: Udp) -> Self {
        UdpProbe {
            settings,
            port: refusals::Port::default(),
        }
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let UdpProbe { settings, port } = self;
        let sent = Instant::now();
        let answer = attempt
            .deadline
            .bound(WAITING, ask(settings, attempt.target))
            .await;
        match answer {
            Ok(answer) => {
                port.answered();
                Ok(judge(settings, &answer))
            }
            Err(PeerError::TimedOut { .. }) if settings.silence_is_alive => {
                let now = Instant::now();
                let outweighed = if port.is_refused() {
                    port.silent(refusals::silence(attempt.real.address, sent, now), now)
                } else {
                    None
                };
                Ok(match outweighed {
                    None => (
                        Verdict::Healthy,
                        "sent, and nothing says that the port is closed".to_owned(),
                    ),
                    Some(ago) => (
                        Verdict::Unhealthy,
                        format!(
                            "connection refused {} ago, and silent since; a host refuses about once a second, whichever \
                             port it is",
                            duration::format(whole_milliseconds(ago))
                        ),
                    ),
                })
            }
            Err(error) => {
                if error == PeerError::Refused {
                    let now = Instant::now();
                    port.refused(now);
                    refusals::refused(attempt.real.address, now);
                }
                Err(error)
            }
        }
    }
}

fn whole_milliseconds(time: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

async fn ask(settings: &Udp, target: &Target) -> Result<Vec<u8>, PeerError> {
    let any = match target.address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let failed = |error: std::io::Error| PeerError::io(WAITING, &error);
    let local = |doing| move |error: std::io::Error| PeerError::local(doing, &error);
    let socket = descriptors::open(|| std::net::UdpSocket::bind(SocketAddr::new(any, 0)))
        .map_err(local("opening a socket"))?;
    socket
        .set_nonblocking(true)
        .map_err(local("opening a socket"))?;
    target.set_mark(&socket)?;
    // No packet is sent here: what fails is a matter of this host's routes.
    socket
        .connect(target.address)
        .map_err(local("finding a route"))?;
    let socket = UdpSocket::from_std(socket).map_err(local("waiting for an answer"))?;
    socket.send(&settings.payload.0).await.map_err(failed)?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut answer).await.map_err(failed)?;
    answer.truncate(length);
    Ok(answer)
}

fn judge(settings: &Udp, answer: &[u8]) -> (Verdict, String) {
    let expected = &settings.expect.0;
    if holds(answer, expected) {
        return (Verdict::Healthy, format!("answered {} bytes", answer.len()));
    }
    let answered = line(&Octets(answer.to_vec()).to_string(), MAX_QUOTED);
    let expected = line(&settings.expect.to_string(), MAX_QUOTED);
    (
        Verdict::Unhealthy,
        format!("answered {answered:?}, which does not hold {expected:?}"),
    )
}

fn holds(answer: &[u8], expected: &[u8]) -> bool {
    expected.is_empty()
        || answer
            .windows(expected.len())
            .any(|window| window == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        for (expect, answer, verdict) in [
            ("", &b""[..], Verdict::Healthy),
            ("", b"x", Verdict::Healthy),
            ("pong", b"pong", Verdict::Healthy),
            ("pong", b"a pong b", Verdict::Healthy),
            ("pong", b"pon", Verdict::Unhealthy),
            ("hex:ff00", &[1, 0xff, 0x00], Verdict::Healthy),
            ("hex:ff00", &[0xff, 1, 0x00], Verdict::Unhealthy),
        ] {
            let spec = Udp {
                expect: expect.parse().unwrap(),
                ..Udp::default()
            };
            assert_eq!(judge(&spec, answer).0, verdict, "{expect} {answer:?}");
        }
    }
}
