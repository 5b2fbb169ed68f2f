//! A steered VIP in its steady state: the flow table is for few packets.

use std::time::{Duration, Instant};

use anyhow::ensure;
use lb_tests::wait_for;

use crate::{
    fixture::HTTP,
    harm::{REALS, Steered, WORK},
};

/// Least window of a VIP, so that two of them fit into a test.
const WINDOW: Duration = Duration::from_secs(10);
/// What requests cost on each real, as a multiple: their capacities are the inverse.
const COSTS: [f64; REALS] = [0.5, 1.0, 1.0, 2.0];
/// How far a share may be from that of the real's capacity once steering has settled.
const NEAR: f64 = 0.25;
const PATIENCE: Duration = Duration::from_secs(180);

pub fn a_steered_vip_that_has_settled_consults_the_flow_table_for_few_packets() {
    let behaviours = COSTS.map(|cost| lb_tests::server::Behaviour {
        cost: WORK.cost * cost,
        ..WORK
    });
    let window = format!("{}s", WINDOW.as_secs());
    let steered = Steered::with(behaviours, &["--window", &window]);
    let all: f64 = COSTS.iter().map(|cost| 1.0 / cost).sum();
    wait_for("shares that follow capacities", PATIENCE, || {
        let shares: Vec<f64> = (0..REALS).map(|real| steered.share(real)).collect();
        let is_near = |(share, cost): (&f64, f64)| (share * cost * all - 1.0).abs() < NEAR;
        ensure!(shares.iter().zip(COSTS).all(is_near), "{shares:?}");
        Ok(Some(()))
    })
    .unwrap();
    // Windows that the moves so far have opened end.
    let begin = Instant::now();
    wait_for("two windows to pass", PATIENCE, || {
        Ok((begin.elapsed() > 2 * WINDOW).then_some(()))
    })
    .unwrap();
    let (lookups, packets) = counts(&steered);
    steered.load.wait_requests(4_000, PATIENCE).unwrap();
    let (lookups, packets) = {
        let (all_lookups, all_packets) = counts(&steered);
        (all_lookups - lookups, all_packets - packets)
    };
    println!("{lookups} of {packets} packets consulted the flow table");
    assert!(packets > 10_000, "{packets}");
    assert!(
        lookups * 100 <= packets * 5,
        "{lookups} of {packets} packets consulted the flow table"
    );
    let report = steered.load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

/// Packets that consulted the flow table, and all packets of the VIP.
fn counts(steered: &Steered) -> (u64, u64) {
    let stats = steered.testbed.agent.ctl_json(&format!("stats {HTTP}"));
    let vip = &stats.unwrap()["vips"][0];
    let number = |name: &str| vip[name].as_u64().unwrap();
    (
        number("table_hits") + number("table_misses"),
        number("packets"),
    )
}
