//! One probe of one real, from the first packet to the verdict.
//!
//! | kind | asks | file |
//! |---|---|---|
//! | tcp | the handshake | [`tcp`] |
//! | http, https | a request, for status, body, JSON | [`http`] |
//! | mqtt | CONNECT, for the CONNACK | [`mqtt`] |
//! | grpc | `grpc.health.v1.Health/Check` | [`grpc`] |
//! | udp | a datagram, for the answer | [`udp`] |
//! | exec | a program on the balancer | [`exec`] |
//!
//! Whatever a real does, a probe ends at its time-out, holds 64 KiB of an answer at most, and says why it
//! failed.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod mqtt;
pub mod tcp;
pub mod udp;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, time::Duration};

use lb_model::vip::VipAddress;
use tokio::time::Instant;

use super::{
    Outcome, Verdict,
    spec::{self, Check},
};
use crate::peer::{Deadline, PeerError, Target, TlsClient};

/// What a probe that got an answer says of it.
type Finding = Result<(Verdict, String), PeerError>;

/// Probes one real of one VIP, again and again.
#[derive(Debug)]
pub struct Prober {
    probe: spec::Probe,
    timeout: Duration,
    tls: Option<TlsClient>,
    vip: VipAddress,
    real: IpAddr,
}

impl Prober {
    /// A prober of `real` for `vip`.
    #[must_use]
    pub fn new(check: &Check, vip: VipAddress, real: IpAddr) -> Self {
        let probe = check.probe.clone();
        let tls = match &probe {
            spec::Probe::Http(http) => client(http.tls.as_ref(), &["http/1.1"]),
            spec::Probe::Mqtt(mqtt) => client(mqtt.tls.as_ref(), &[]),
            spec::Probe::Grpc(grpc) => client(grpc.tls.as_ref(), &["h2"]),
            spec::Probe::Tcp {} | spec::Probe::Udp(_) | spec::Probe::Exec(_) => None,
        };
        Prober {
            probe,
            timeout: check.timeout,
            tls,
            vip,
            real,
        }
    }

    /// Asks once. It ends at the check's time-out; dropped before, it leaves nothing behind.
    pub async fn run(&mut self, target: &Target) -> Outcome {
        let start = Instant::now();
        let deadline = Deadline::after(self.timeout);
        let tls = self.tls.as_mut();
        let finding = match &self.probe {
            spec::Probe::Tcp {} => tcp::probe(target, &deadline).await,
            spec::Probe::Http(http) => http::probe(http, target, tls, &deadline).await,
            spec::Probe::Mqtt(mqtt) => {
                let client = mqtt::client_id(&self.vip, self.real);
                mqtt::probe(mqtt, client, target, tls, &deadline).await
            }
            spec::Probe::Grpc(grpc) => grpc::probe(grpc, target, tls, &deadline).await,
            spec::Probe::Udp(udp) => udp::probe(udp, target, &deadline).await,
            spec::Probe::Exec(exec) => {
                exec::probe(exec, &self.vip, self.real, target, &deadline).await
            }
        };
        let (verdict, reason) =
            finding.unwrap_or_else(|error| (Verdict::Unhealthy, error.to_string()));
        Outcome::new(verdict, &reason, start.elapsed())
    }
}

fn client(tls: Option<&crate::peer::Tls>, protocols: &[&str]) -> Option<TlsClient> {
    tls.map(|tls| TlsClient::new(tls.clone(), protocols))
}
