//! A datagram, and what comes back. The socket is connected, so that only the peer's answers arrive and "port
//! unreachable" does, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::Finding;
use crate::health::{
    Verdict,
    outcome::line,
    spec::{Octets, Udp},
};
use crate::peer::{Deadline, PeerError, Target};

const ASKING: &str = "waiting for an answer";
/// Bytes of an answer that are looked at.
const MAX_ANSWER: usize = 4 << 10;
/// Characters of an answer that are told.
const MAX_TOLD: usize = 80;

/// Sends the payload once; what is lost is the thresholds' business.
pub async fn probe(spec: &Udp, target: &Target, deadline: &Deadline) -> Finding {
    match deadline.bound(ASKING, ask(spec, target)).await {
        Ok(answer) => Ok(judge(spec, &answer)),
        Err(PeerError::TimedOut { .. }) if spec.silence_is_alive => Ok((
            Verdict::Healthy,
            "sent, and nothing says that the port is closed".to_owned(),
        )),
        Err(error) => Err(error),
    }
}

async fn ask(spec: &Udp, target: &Target) -> Result<Vec<u8>, PeerError> {
    let any = match target.address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let failed = |error: std::io::Error| PeerError::io(ASKING, &error);
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))
        .await
        .map_err(|error| PeerError::io("opening a socket", &error))?;
    target.set_mark(&socket)?;
    socket.connect(target.address).await.map_err(failed)?;
    socket.send(&spec.payload.0).await.map_err(failed)?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut answer).await.map_err(failed)?;
    answer.truncate(length);
    Ok(answer)
}

fn judge(spec: &Udp, answer: &[u8]) -> (Verdict, String) {
    let expected = &spec.expect.0;
    if holds(answer, expected) {
        return (Verdict::Healthy, format!("answered {} bytes", answer.len()));
    }
    let told = line(&Octets(answer.to_vec()).to_string(), MAX_TOLD);
    let wanted = line(&spec.expect.to_string(), MAX_TOLD);
    (
        Verdict::Unhealthy,
        format!("answered {told:?}, which does not hold {wanted:?}"),
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
