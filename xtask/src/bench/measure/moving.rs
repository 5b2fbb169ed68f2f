//! Long connections while weights move all the time: how many break.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lb_tests::{
    client::{Connections, HttpPlan, http_load},
    server::{Nginx, Weigher},
    wait_for,
};
use serde::Serialize;

use crate::field::{Field, PATIENCE, Server as _};

/// What became of the connections.
#[derive(Debug, Serialize)]
pub struct MovingFigure {
    /// Connections held.
    pub connections: usize,
    /// Seconds that they were held.
    pub seconds: f64,
    /// Weights set by hand meanwhile; what the reals' agents asked for comes on top.
    pub orders: u64,
    /// Requests answered on the connections.
    pub requests: u64,
    /// Connections broken.
    pub broken: u64,
}

const CONNECTIONS: usize = 1_000;
const REALS: usize = 3;
const HOLD: Duration = Duration::from_secs(60);
/// Rest between two orders.
const REST: Duration = Duration::from_millis(100);
/// Each connection rests so long after an answer.
const PAUSE: Duration = Duration::from_secs(1);
const WEIGHTS: [u16; 7] = [100, 7, 900, 0, 45, 300, 1];
const AGENT_PORT: u16 = 8_079;

/// Measures and prints.
pub fn measure() -> anyhow::Result<MovingFigure> {
    let source = format!("agent-check port={AGENT_PORT} interval=500ms timeout=400ms");
    let field: Field<Nginx> = Field::new(
        REALS,
        &[
            "--load",
            &source,
            "--steering",
            "agent-check period=500ms slow_start=0s",
        ],
    )?;
    let _weighers = field
        .reals
        .iter()
        .map(|real| Weigher::start(&real.host, AGENT_PORT))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    let load = http_load(
        &field.client,
        HttpPlan {
            target: Nginx::target()?,
            workers: CONNECTIONS,
            connections: Connections::Kept,
            pause: PAUSE,
            requests: None,
        },
    );
    let wait_heard = |since: Instant| {
        wait_for("an answer on every connection", PATIENCE, || {
            Ok((load.heard_since(since) == CONNECTIONS).then_some(()))
        })
        .with_context(|| format!("{:?}", load.report()))
    };
    wait_heard(began)?;
    let (began, before) = (Instant::now(), load.report().requests);
    let mut orders = 0;
    for (real, weight) in (0..REALS).cycle().zip(WEIGHTS.iter().cycle()) {
        if began.elapsed() >= HOLD {
            break;
        }
        let address = field.reals[real].address();
        let weight = weight.to_string();
        field
            .agent
            .lbctl(["set-real", Nginx::VIP, &address, "--weight", &weight])?;
        orders += 1;
        std::thread::sleep(REST);
    }
    let seconds = began.elapsed().as_secs_f64();
    wait_heard(Instant::now())?;
    let report = load.stop()?;
    let figure = MovingFigure {
        connections: CONNECTIONS,
        seconds,
        orders,
        requests: report.requests - before,
        broken: report.failed,
    };
    println!(
        "\n{CONNECTIONS} connections were held for {seconds:.0} s while {orders} weights were set by hand and {REALS} \
         agents asked for another one each every 500 ms: {} requests, {} broken",
        figure.requests, figure.broken
    );
    Ok(figure)
}
