//! Long connections while weights change all the time: how many break.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lb_tests::{
    Testbed,
    client::{Connections, HttpPlan, http_load},
    server::{Nginx, Weigher},
    wait_for,
};
use serde::Serialize;

use crate::testbed::{self, PATIENCE, Service as _};

/// The outcome of the connections.
#[derive(Debug, Serialize)]
pub struct MovingFigure {
    /// Connections held.
    pub connections: usize,
    /// Seconds for which they were held.
    pub seconds: f64,
    /// Weights set with `lbctl` meanwhile; the changes that the reals' agents requested are not counted.
    pub changes: u64,
    /// Requests answered on the connections.
    pub requests: u64,
    /// Connections broken.
    pub broken: u64,
}

const CONNECTIONS: usize = 1_000;
const REALS: usize = 3;
const HOLD: Duration = Duration::from_secs(60);
/// Pause between two changes.
const REST: Duration = Duration::from_millis(100);
/// Pause of each connection after an answer.
const PAUSE: Duration = Duration::from_secs(1);
const WEIGHTS: [u16; 7] = [100, 7, 900, 0, 45, 300, 1];
const AGENT_PORT: u16 = 8_079;

/// Measures and prints.
pub fn measure() -> anyhow::Result<MovingFigure> {
    let source = format!("agent-check port={AGENT_PORT} interval=500ms timeout=400ms");
    let testbed: Testbed<Nginx> = testbed::build(
        REALS,
        &[
            "--load",
            &source,
            "--steering",
            "agent-check period=500ms slow_start=0s",
        ],
    )?;
    let _weighers = testbed
        .backends
        .iter()
        .map(|backend| Weigher::start(&backend.host, AGENT_PORT))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    let load = http_load(
        &testbed.client,
        HttpPlan {
            target: Nginx::target()?,
            workers: CONNECTIONS,
            connections: Connections::Kept,
            pause: PAUSE,
            requests: None,
        },
    );
    let wait_answered = |since: Instant| {
        wait_for("an answer on every connection", PATIENCE, || {
            Ok((load.answered_since(since) == CONNECTIONS).then_some(()))
        })
        .with_context(|| format!("{:?}", load.report()))
    };
    wait_answered(began)?;
    let (began, before) = (Instant::now(), load.report().requests);
    let mut changes = 0;
    for (real, weight) in (0..REALS).cycle().zip(WEIGHTS.iter().cycle()) {
        if began.elapsed() >= HOLD {
            break;
        }
        let address = testbed.backends[real].address();
        let weight = weight.to_string();
        testbed.lbctl(&["set-real", Nginx::VIP, &address, "--weight", &weight])?;
        changes += 1;
        std::thread::sleep(REST);
    }
    let seconds = began.elapsed().as_secs_f64();
    wait_answered(Instant::now())?;
    let report = load.stop()?;
    let figure = MovingFigure {
        connections: CONNECTIONS,
        seconds,
        changes,
        requests: report.requests - before,
        broken: report.failed,
    };
    println!(
        "\n{CONNECTIONS} connections were held for {seconds:.0} s while {changes} weights were set and {REALS} agents \
         requested another one every 500 ms: {} requests, {} broken connections",
        figure.requests, figure.broken
    );
    Ok(figure)
}
