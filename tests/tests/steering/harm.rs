//! Readings that mean something else than load: steering does no harm by them, and says what it does not believe.

use std::{cell::Cell, time::Duration};

use lb_tests::{
    AgentOptions,
    client::{Connections, HttpPlan, Load, http_load},
    server::{Application, Behaviour, Sensor, WebApplication},
    wait_for,
};
use serde_json::Value;

use crate::fixture::{HTTP, target};

type Testbed = lb_tests::Testbed<WebApplication>;

pub const REALS: usize = 4;
/// The share of each, as the operator wants it.
const OPERATOR: f64 = 1.0 / REALS as f64;
/// What the ring's slots and steering's dead band make of it.
const ROUNDING: f64 = 1.04;
const STEERING: &str = "capacity period=500ms slow_start=0s healthy_for=1s";
/// A request that keeps the CPU busy for a part of the time that it takes.
pub const WORK: Behaviour = Behaviour {
    status: 200,
    delay: Duration::from_millis(30),
    cost: 1.0 / 120.0,
};
/// Seconds after which what a real's flows show is compared with the others'.
const SERVED: f64 = 45.0;
/// Limit for what takes some tens of periods on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Four web applications that are steered by the load that they report, under a load of new connections.
pub struct Steered {
    pub load: Load,
    pub testbed: Testbed,
}

impl Steered {
    fn new(behaviours: [Behaviour; REALS]) -> Self {
        Self::with(behaviours, &[])
    }

    /// With further options of the VIP.
    pub fn with(behaviours: [Behaviour; REALS], more: &[&str]) -> Self {
        let testbed = Testbed::new(REALS, &[HTTP], AgentOptions::default()).unwrap();
        for (backend, behaviour) in testbed.backends.iter().zip(behaviours) {
            backend.server.application.behave(behaviour);
        }
        let source = format!(
            "http-json port={} path=/load interval=500ms timeout=400ms utilisation=/utilisation",
            Application::PORT
        );
        let options = [
            "--check",
            "tcp interval=1s",
            "--load",
            &source,
            "--steering",
            STEERING,
        ];
        let options = [&options[..], more].concat();
        let reals: Vec<_> = testbed.backends.iter().collect();
        testbed.add_service(HTTP, &options, &reals).unwrap();
        for backend in &testbed.backends {
            testbed.wait_healthy(HTTP, &backend.address()).unwrap();
        }
        let load = http_load(
            &testbed.client,
            HttpPlan {
                target: target(HTTP),
                workers: 10,
                connections: Connections::New,
                pause: Duration::from_millis(20),
                requests: None,
            },
        );
        Steered { load, testbed }
    }

    fn application(&self, real: usize) -> &Application {
        &self.testbed.backends[real].server.application
    }

    pub fn why(&self, real: usize) -> Value {
        let address = self.testbed.backends[real].address();
        self.testbed.why(HTTP, &address).unwrap()
    }

    pub fn share(&self, real: usize) -> f64 {
        self.why(real)["real"]["share"].as_f64().unwrap()
    }

    /// Waits until all reals have served long enough to be compared with each other.
    fn wait_served(&self) {
        wait_for("the reals to have served for a while", PATIENCE, || {
            let served = |real| self.why(real)["since"].as_f64() > Some(SERVED);
            Ok((0..REALS).all(served).then_some(()))
        })
        .unwrap();
    }

    /// Asserts that a real has no more than the operator's share.
    fn assert_not_raised(&self, real: usize) -> Value {
        let why = self.why(real);
        let share = why["real"]["share"].as_f64().unwrap();
        assert!(share <= OPERATOR * ROUNDING, "{why:#}");
        why
    }

    /// Waits until the text of `why` about a real has one of these words, while it has no more than the operator's
    /// share.
    fn wait_given_away(&self, real: usize, words: &[&str]) {
        wait_for("a reason that keeps the real's share", PATIENCE, || {
            let why = self.assert_not_raised(real);
            let said = format!("{} {}", why["limit"], why["doubt"]);
            Ok(words.iter().any(|word| said.contains(word)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {:#}", self.why(real)));
    }

    /// Goes on for so many requests, with a look at every real each period.
    fn watch(&self, requests: u64, check: impl Fn(&Self)) {
        let begin = self.requests();
        wait_for("further requests", PATIENCE, || {
            check(self);
            Ok((self.requests() >= begin + requests).then_some(()))
        })
        .unwrap();
    }

    fn requests(&self) -> u64 {
        (0..REALS)
            .map(|real| self.application(real).requests())
            .sum()
    }
}

pub fn a_real_that_fails_fast_gets_no_more_than_its_share() {
    // It has a tenth of the work that the others have, and looks as capable, from the first request on.
    let fails = Behaviour {
        status: 503,
        delay: Duration::ZERO,
        cost: WORK.cost / 10.0,
    };
    let steered = Steered::new([WORK, WORK, WORK, fails]);
    steered.wait_given_away(3, &["its flows end"]);
    steered.watch(3_000, |steered| {
        steered.assert_not_raised(3);
    });
}

pub fn a_real_that_waits_for_its_disk_gets_no_more_than_its_share() {
    // Its CPU is idle meanwhile.
    let waits = Behaviour {
        status: 200,
        delay: Duration::from_millis(500),
        cost: WORK.cost / 20.0,
    };
    let steered = Steered::new([WORK, WORK, WORK, waits]);
    steered.wait_given_away(
        3,
        &[
            "longer than the other reals'",
            "does not follow",
            "not trusted",
        ],
    );
    steered.watch(1_500, |steered| {
        steered.assert_not_raised(3);
    });
}

pub fn a_sensor_that_freezes_doubles_or_halves_moves_no_share_far() {
    let steered = Steered::new([WORK; REALS]);
    steered.wait_served();
    let (least, most) = (Cell::new(1.0_f64), Cell::new(0.0_f64));
    for sensor in [
        Sensor::Times(2.0),
        Sensor::Times(1.0),
        Sensor::Times(0.5),
        Sensor::Times(1.0),
        Sensor::Frozen,
    ] {
        steered.application(3).set_sensor(sensor);
        steered.watch(1_500, |steered| {
            for real in 0..REALS {
                let share = steered.share(real);
                least.set(least.get().min(share));
                most.set(most.get().max(share));
                // A reading that doubles is believed, because the others have room for what the real gives up: half of its
                // share, and less by what the reading itself wavers (a busy machine reads up to 1.7 times too much). Nothing
                // is believed that would give a real much more.
                let believed = if real == 3 { 0.25 } else { 0.65 };
                assert!(
                    (believed * OPERATOR..=1.35 * OPERATOR).contains(&share),
                    "{sensor:?}: {:#}",
                    steered.why(real)
                );
            }
        });
        // What was wrong is taken back.
        if sensor == Sensor::Times(1.0) {
            wait_for("the share that the real had", PATIENCE, || {
                Ok((steered.share(3) > 0.8 * OPERATOR).then_some(()))
            })
            .unwrap_or_else(|error| panic!("{error:#}: {:#}", steered.why(3)));
        }
    }
    println!("shares from {:.3} to {:.3}", least.get(), most.get());
    let report = steered.load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}
