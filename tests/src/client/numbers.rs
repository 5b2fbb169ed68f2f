//! A stream of numbered datagrams over many flows.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};

use crate::{Namespace, server::Arrivals, wait_for};

/// Datagrams at most on their way at a time; when there are as many, all must arrive before the next is sent.
/// A veth's queue holds 256: no queue overflows, whatever else the machine does, so what does not arrive was
/// lost by what is under test.
const WINDOW: u64 = 128;

/// Datagrams sent at once.
const BURST: u64 = 5;

/// Rest after a burst.
const REST: Duration = Duration::from_millis(1);

/// Datagrams at most: an end even if nobody stops the stream.
const MOST: u64 = 3_000_000;

/// Odd numbers that leave by one port before the next flow begins.
const SHORT_FLOW: u64 = 40;

/// How long the stream waits for what is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stream sends.
#[derive(Clone, Copy, Debug)]
pub struct NumberPlan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// The sender's address.
    pub source: IpAddr,
    /// The first of its ports.
    pub first_port: u16,
    /// Flows that last as long as the stream; even numbers leave by them in turn.
    pub flows: u16,
}

/// A running stream of at most 5,000 datagrams a second, numbered from 0; it stops when dropped.
#[derive(Debug)]
pub struct Numbers {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Numbers {
    /// Starts it in `namespace`; `arrivals` tells how much has come through.
    pub fn start(namespace: &Namespace, plan: NumberPlan, arrivals: &Arc<Arrivals>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let arrivals = Arc::clone(arrivals);
        let thread = namespace.thread(move || send(plan, &stopped, &counter, &arrivals));
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until `count` more than now were sent.
    ///
    /// # Errors
    /// When the stream has ended, or that takes longer than `patience`.
    pub fn wait_sent(&self, count: u64, patience: Duration) -> anyhow::Result<()> {
        let goal = self.sent() + count;
        let done = wait_for(
            &format!("{count} more numbers to be sent"),
            patience,
            || {
                let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
                let done = self.sent() >= goal;
                Ok((done || ended).then_some(done))
            },
        )?;
        ensure!(done, "the stream of numbers has ended");
        Ok(())
    }

    /// Ends the stream and gives how many were sent: the numbers below that, each once.
    ///
    /// # Errors
    /// When it could not send, or what it sent did not arrive.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the stream of numbers panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // `stop` was not called: the test has failed already.
            let _ = thread.join();
        }
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
