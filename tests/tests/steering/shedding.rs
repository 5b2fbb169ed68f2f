//! Surplus connections of one broker are shed at a limited rate, and reconnect to other brokers.

use std::{
    thread,
    time::{Duration, Instant},
};

use lb_tests::{
    client::{Load, MqttPlan, mqtt_load},
    wait_for,
};

use crate::fixture::{MQTT, PATIENCE, Testbed, devices, new_testbed};

const BROKERS: usize = 3;
const CLIENTS: usize = 60;
/// Shed rate, in flows per second.
const RATE: f64 = 5.0;
const PERIOD: Duration = Duration::from_secs(1);
const STEERING: &str = "capacity period=1s life=1h slow_start=0s";
/// Connections that a real may keep: a tenth more than its share of 20.
const DUE: usize = 22;
/// A real with so few connections has no surplus, even while some clients are reconnecting.
const FEW: usize = 18;

/// Returns the connections of each broker.
fn held(testbed: &Testbed) -> Vec<usize> {
    testbed
        .backends
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

/// Waits until every client has been answered some more times.
fn go_on(load: &Load) {
    load.wait_requests(20 * CLIENTS as u64, PATIENCE).unwrap();
}

pub fn a_surplus_is_shed_at_the_configured_rate_and_from_no_other_real() {
    let testbed = new_testbed(BROKERS, &[MQTT]);
    testbed
        .add_service(MQTT, &["--steering", STEERING], &[&testbed.backends[0]])
        .unwrap();
    let began = Instant::now();
    let load = mqtt_load(
        &testbed.client,
        MqttPlan {
            pause: Duration::from_millis(200),
            ..devices(CLIENTS)
        },
    );
    wait_for("every client to be answered", PATIENCE, || {
        Ok((load.answered_since(began) == CLIENTS).then_some(()))
    })
    .unwrap();
    for real in &testbed.backends[1..] {
        testbed.lbctl(&["add-real", MQTT, &real.address()]).unwrap();
    }
    // Shedding is off by default, and weights alone move no connection.
    go_on(&load);
    assert_eq!(held(&testbed), [CLIENTS, 0, 0]);
    assert_eq!(load.report().failed, 0, "{:?}", load.report().errors);

    let began = Instant::now();
    let shedding = format!("{STEERING} shed_rate={RATE}");
    testbed
        .lbctl(&["set-vip", MQTT, "--steering", &shedding])
        .unwrap();
    let processors = thread::available_parallelism().unwrap().get() as f64;
    let mut before = held(&testbed);
    let mut reported = false;
    wait_for("the surplus to be shed", PATIENCE, || {
        let broken = load.report().failed as f64;
        let seconds = (began.elapsed() + PERIOD).as_secs_f64();
        assert!(
            broken <= RATE * seconds + processors * seconds.ceil(),
            "{broken} in {seconds} s"
        );
        let now = held(&testbed);
        // Clients reconnect to random brokers, so another broker may get a surplus.
        assert!(
            now.iter()
                .zip(&before)
                .skip(1)
                .all(|(now, before)| now >= before || *before > FEW),
            "a broker without a surplus has lost connections: {before:?}, then {now:?}"
        );
        before = now;
        let why = testbed.why(MQTT, &testbed.backends[0].address()).unwrap();
        reported |= why["limit"]
            .as_str()
            .unwrap()
            .contains("are reset in this period");
        Ok((before[0] <= DUE).then_some(()))
    })
    .unwrap();
    // A client notices the reset when it sends again.
    let broken = wait_for("every shed client to notice", PATIENCE, || {
        let broken = load.report().failed;
        Ok((broken >= (CLIENTS - DUE) as u64).then_some(broken))
    })
    .unwrap();
    println!(
        "{broken} connections were shed in {:?}; the brokers now have {before:?}",
        began.elapsed()
    );
    assert!(reported, "`lbctl why` reports the shedding");
    let reset = load
        .report()
        .errors
        .iter()
        .all(|error| error.contains("reset"));
    assert!(reset, "{:?}", load.report().errors);

    // Then shedding ends.
    wait_for("every client to reconnect", PATIENCE, || {
        Ok((held(&testbed).iter().sum::<usize>() == CLIENTS).then_some(()))
    })
    .unwrap();
    wait_for("a while without a reset", PATIENCE, || {
        let broken = load.report().failed;
        go_on(&load);
        Ok((load.report().failed == broken).then_some(()))
    })
    .unwrap();
    let most = held(&testbed).into_iter().max();
    assert!(most <= Some(CLIENTS / 2), "{:?}", held(&testbed));
}
