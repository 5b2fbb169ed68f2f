//! A flood of packets with forged sources.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader};

use super::sender::Sender;
use crate::{Namespace, PacketSocket};

/// Packets are sent in bursts, one each millisecond.
const BURST: Duration = Duration::from_millis(1);

/// Greatest number of packets, in case the flood is never stopped.
const MOST: u64 = 50_000_000;

/// The sender's MAC address, which is nobody's.
const SENDER: [u8; 6] = [2, 0, 0, 0xF1, 0, 0xD0];

/// What the packets of a flood are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// TCP segments that open a connection.
    Syn,
    /// TCP segments of connections that do not exist.
    Ack,
    /// Datagrams.
    Udp,
}

/// Settings of a flood.
#[derive(Clone, Debug)]
pub struct FloodPlan {
    /// Addresses and ports that are flooded in turn.
    pub targets: Vec<SocketAddr>,
    /// The kinds of packets, in turn.
    pub kinds: Vec<FloodKind>,
    /// The interface that the flood leaves by.
    pub interface: String,
    /// The MAC address that it is sent to.
    pub gateway: [u8; 6],
    /// Packets a second; fewer if the machine does not make as many.
    pub per_second: u64,
}

/// A running flood. Its sources are random addresses of 198.18.0.0/15 and 2001:2::/48 (RFC 2544, RFC 5180), with random
/// ports. Dropping it stops it.
#[derive(Debug)]
pub struct Flood(Sender);

impl Flood {
    /// Starts the flood in `namespace`.
    pub fn start(namespace: &Namespace, plan: FloodPlan) -> Self {
        Self(Sender::start(namespace, move |stop, sent| {
            flood(&plan, stop, sent)
        }))
    }

    /// Returns how many packets were sent.
    pub fn sent(&self) -> u64 {
        self.0.sent()
    }

    /// Ends the flood and returns how many packets were sent.
    ///
    /// # Errors
    /// Fails if the flood could not be sent.
    pub fn stop(self) -> anyhow::Result<u64> {
        self.0.stop()
    }
}

fn flood(plan: &FloodPlan, stopped: &AtomicBool, sent: &AtomicU64) -> anyhow::Result<()> {
    let socket = PacketSocket::open_for_sending(&plan.interface)
        .with_context(|| format!("opening a packet socket on {} (root)", plan.interface))?;
    let mut random = fastrand::Rng::new();
    let mut frame = Vec::new();
    let begin = Instant::now();
    let mut number = 0;
    while !stopped.load(Ordering::Relaxed) && number < MOST {
        let due = begin.elapsed().as_micros() * u128::from(plan.per_second) / 1_000_000;
        // What the machine did not make in time is not made up for.
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let burst = due
            .saturating_sub(number)
            .min(2 * plan.per_second / 1_000 + 1);
        for _ in 0..burst {
            let turn = number as usize;
            let target = plan.targets[turn % plan.targets.len()];
            let kind = plan.kinds[turn / plan.targets.len() % plan.kinds.len()];
            frame.clear();
            forge(&mut frame, plan.gateway, target, kind, &mut random)?;
            socket
                .send_or_lose(&frame)
                .context("sending a packet of the flood")?;
            number += 1;
        }
        number = number.max(due.saturating_sub(plan.per_second / 100));
        sent.fetch_add(burst, Ordering::Relaxed);
        thread::sleep(BURST);
    }
    Ok(())
}

/// Writes a packet with a random source.
fn forge(
    frame: &mut Vec<u8>,
    gateway: [u8; 6],
    target: SocketAddr,
    kind: FloodKind,
    random: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    let ethernet = PacketBuilder::ethernet2(SENDER, gateway);
    let packet = match target.ip() {
        IpAddr::V4(address) => {
            let [.., b, c, d] = random.u32(..).to_be_bytes();
            ethernet.ipv4([198, 18 | b & 1, c, d], address.octets(), 64)
        }
        IpAddr::V6(address) => {
            let host: Ipv6Addr = (0x2001_0002_u128 << 96 | u128::from(random.u64(..))).into();
            ethernet.ipv6(host.octets(), address.octets(), 64)
        }
    };
    let port = random.u16(1_024..);
    let tcp = |packet: PacketBuilderStep<_>, random: &mut fastrand::Rng| {
        packet.tcp(port, target.port(), random.u32(..), 64_240)
    };
    match kind {
        FloodKind::Syn => {
            let syn: PacketBuilderStep<TcpHeader> = tcp(packet, random).syn();
            syn.write(frame, &[])?;
        }
        FloodKind::Ack => {
            let acknowledgment = random.u32(..);
            tcp(packet, random).ack(acknowledgment).write(frame, &[])?;
        }
        FloodKind::Udp => packet.udp(port, target.port()).write(frame, b"flood")?,
    }
    Ok(())
}
