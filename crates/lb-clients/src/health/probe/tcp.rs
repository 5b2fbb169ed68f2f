//! The handshake of TCP: something listens. The kernel completes it for a frozen process, too.

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::Verdict;
use crate::peer::{Closing, connect};

pub(super) static KIND: ProbeKind = ProbeKind::of::<TcpProbe>(
    "tcp",
    "Connects over TCP. A frozen process still completes the handshake: use a kind that waits for an answer where \
     there is one.",
);

lb_model::settings! {
    /// A TCP handshake.
    #[derive(Eq, Default)]
    pub struct Tcp {}
}

/// Probes by connecting.
#[derive(Debug)]
struct TcpProbe;

impl Probe for TcpProbe {
    type Settings = Tcp;

    fn new(_: Tcp) -> Self {
        TcpProbe
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        connect(attempt.target, Closing::Reset, attempt.deadline).await?;
        Ok((Verdict::Healthy, "connected".to_owned()))
    }
}
