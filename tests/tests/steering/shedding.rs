//! Connections that are piled up on one broker are ended, so many a second, and come back elsewhere.

use std::{
    thread,
    time::{Duration, Instant},
};

use lb_tests::{
    client::{Load, MqttPlan, mqtt_load},
    wait_for,
};

use crate::fixture::{MQTT, PATIENCE, Stand, devices};

const BROKERS: usize = 3;
const CLIENTS: usize = 60;
/// Flows a second.
const RATE: f64 = 5.0;
const PERIOD: Duration = Duration::from_secs(1);
const STEERING: &str = "capacity period=1s life=1h slow_start=0s";
/// A real may have a tenth more than its share of 20.
const DUE: usize = 22;
/// One that has so many has none to give, even while a few clients are on their way back.
const FEW: usize = 18;

/// Connections that each broker's host has.
fn held(stand: &Stand) -> Vec<usize> {
    stand
        .reals
        .iter()
        .map(|real| {
            let connections = real
                .host
                .sh("ss --no-header --tcp --numeric state established sport = :1883")
                .unwrap();
            connections.lines().count()
        })
        .collect()
}

/// Lets every client be answered some more times.
fn go_on(load: &Load) {
    load.wait_requests(20 * CLIENTS as u64, PATIENCE).unwrap();
}

#[test]
fn a_pile_is_shed_no_faster_than_allowed_and_nobody_else_loses_any() {
    let stand = Stand::new(BROKERS, &[MQTT]);
    stand.serve(MQTT, &["--steering", STEERING], &[&stand.reals[0]]);
    let began = Instant::now();
    let load = mqtt_load(
        &stand.client,
        MqttPlan {
            pause: Duration::from_millis(200),
            ..devices(CLIENTS)
        },
    );
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.heard_since(began) == CLIENTS).then_some(()))
    })
    .unwrap();
    for real in &stand.reals[1..] {
        stand.ctl(&["add-real", MQTT, &real.address()]);
    }
    // It is off unless it is asked for: weights alone move no connection.
    go_on(&load);
    assert_eq!(held(&stand), [CLIENTS, 0, 0]);
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);

    let began = Instant::now();
    let shedding = format!("{STEERING} shed_rate={RATE}");
    stand.ctl(&["set-vip", MQTT, "--steering", &shedding]);
    let processors = thread::available_parallelism().unwrap().get() as f64;
    let mut before = held(&stand);
    let mut told = false;
    wait_for("the pile to be gone", PATIENCE, || {
        let broken = load.report().failed as f64;
        let seconds = (began.elapsed() + PERIOD).as_secs_f64();
        assert!(
            broken <= RATE * seconds + processors * seconds.ceil(),
            "{broken} in {seconds} s"
        );
        let now = held(&stand);
        // Where clients come back to is chance: one that got more than its share by it has some to give, too.
        assert!(
            now.iter()
                .zip(&before)
                .skip(1)
                .all(|(now, before)| now >= before || *before > FEW),
            "one that has too few lost some: {before:?}, then {now:?}"
        );
        before = now;
        let why = stand.why(MQTT, &stand.reals[0].address());
        told |= why["limit"]
            .as_str()
            .unwrap()
            .contains("are reset in this period");
        Ok((before[0] <= DUE).then_some(()))
    })
    .unwrap();
    // A client learns of it when it sends again.
    let broken = wait_for("every client that was shed to know it", PATIENCE, || {
        let broken = load.report().failed;
        Ok((broken >= (CLIENTS - DUE) as u64).then_some(broken))
    })
    .unwrap();
    println!(
        "{broken} connections were ended in {:?}; the brokers now have {before:?}",
        began.elapsed()
    );
    assert!(told, "the operator is told");
    let reset = load
        .report()
        .errors
        .iter()
        .all(|error| error.contains("reset"));
    assert!(reset, "{:?}", load.report().errors);

    // Then it is over.
    wait_for("every client to be back", PATIENCE, || {
        Ok((held(&stand).iter().sum::<usize>() == CLIENTS).then_some(()))
    })
    .unwrap();
    wait_for("a while without a reset", PATIENCE, || {
        let broken = load.report().failed;
        go_on(&load);
        Ok((load.report().failed == broken).then_some(()))
    })
    .unwrap();
    let most = held(&stand).into_iter().max();
    assert!(most <= Some(CLIENTS / 2), "{:?}", held(&stand));
}
