//! A stream of numbered datagrams over many flows.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::sender::Sender;
use crate::{Namespace, server::Arrivals, wait_for};

/// Greatest number of datagrams in flight; at that number, all of them must arrive before the next is sent. A veth's
/// queue holds 256, so no queue overflows however busy the machine is, and a datagram that does not arrive was lost by
/// the code under test.
const WINDOW: u64 = 128;

/// Datagrams sent back to back.
const BURST: u64 = 5;

/// Pause after a burst.
const REST: Duration = Duration::from_millis(1);

/// Greatest number of datagrams, in case the stream is never stopped.
const MOST: u64 = 3_000_000;

/// Number of odd datagrams sent from one port before the next flow begins.
const SHORT_FLOW: u64 = 40;

/// How long the stream waits for datagrams in flight.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of a stream.
#[derive(Clone, Copy, Debug)]
pub struct NumberPlan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// The sender's address.
    pub source: IpAddr,
    /// The first of the sender's ports.
    pub first_port: u16,
    /// Number of flows that last as long as the stream; they carry the even numbers in turn.
    pub flows: u16,
}

/// A running stream of at most 5,000 datagrams per second, numbered from 0. Dropping it stops it.
#[derive(Debug)]
pub struct Numbers(Sender);

impl Numbers {
    /// Starts the stream in `namespace`; `arrivals` counts what has arrived.
    pub fn start(namespace: &Namespace, plan: NumberPlan, arrivals: &Arc<Arrivals>) -> Self {
        let arrivals = Arc::clone(arrivals);
        Self(Sender::start(namespace, move |stop, sent| {
            send(plan, stop, sent, &arrivals)
        }))
    }

    /// Returns how many datagrams were sent.
    pub fn sent(&self) -> u64 {
        self.0.sent()
    }

    /// Waits until `count` further datagrams were sent.
    ///
    /// # Errors
    /// Fails if the stream has ended, or if that takes longer than `patience`.
    pub fn wait_sent(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        let goal = self.sent() + count;
        let done = wait_for(
            &format!("{count} more numbers to be sent"),
            patience,
            || {
                let ended = self.0.has_ended();
                let done = self.sent() >= goal;
                Ok((done || ended).then_some(done))
            },
        )?;
        ensure!(done, "the stream of numbers has ended");
        Ok(())
    }

    /// Ends the stream and returns how many datagrams were sent: each number below that once.
    ///
    /// # Errors
    /// Fails if a datagram could not be sent or did not arrive.
    pub fn stop(self) -> anyhow::Result<u64> {
        self.0.stop()
    }
}

fn send(
    plan: NumberPlan,
    stop: &AtomicBool,
    sent: &AtomicU64,
    arrivals: &Arrivals,
) -> anyhow::Result<()> {
    let open = |flow: u64| {
        let port = u16::try_from(u64::from(plan.first_port) + flow)?;
        let from = SocketAddr::new(plan.source, port);
        let socket = UdpSocket::bind(from).with_context(|| format!("binding {from}"))?;
        socket.connect(plan.target)?;
        anyhow::Ok(socket)
    };
    let long = (0..u64::from(plan.flows))
        .map(open)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut short = open(u64::from(plan.flows))?;
    for (number, socket) in (0..MOST).zip(long.iter().flat_map(|long| [Some(long), None]).cycle()) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if number - arrivals.count().min(number) >= WINDOW {
            wait_for("numbers on their way to arrive", PATIENCE, || {
                Ok((arrivals.count() >= number).then_some(()))
            })
            .with_context(|| format!("{number} sent, {} arrived", arrivals.count()))?;
        }
        if number % (2 * SHORT_FLOW) == 2 * SHORT_FLOW - 1 {
            short = open(u64::from(plan.flows) + number.div_ceil(2 * SHORT_FLOW))?;
        }
        let length = socket
            .unwrap_or(&short)
            .send(&number.to_be_bytes())
            .with_context(|| format!("sending {number}"))?;
        ensure!(length == 8, "{length} of 8 bytes of {number} were sent");
        sent.store(number + 1, Ordering::Relaxed);
        if number % BURST == BURST - 1 {
            thread::sleep(REST);
        }
    }
    Ok(())
}
