//! All situations.

use super::scenario::{
    Demand,
    Group::{Gain, Known, Variant},
    Probe, Scenario,
    Sensor::{Frozen, Inverted, Offset, Scaled, Silent, Stuck},
    What, When,
};

/// Answers errors at a tenth of the work.
const FAST_ERRORS: What = What::Errors {
    part: 1.0,
    work: 0.1,
};
/// Waits for its disk: half of its speed, and its processors idle.
const DISK: What = What::Starved {
    speed: 0.5,
    shown: 0.5,
};
/// A neighbour takes its processors.
const NEIGHBOUR: What = What::Starved {
    speed: 0.575,
    shown: 1.0,
};

/// The situations in which steering was seen to do harm.
fn known() -> Vec<Scenario> {
    let new = |name: &str, reals, load, life| Scenario::new(name, Known, reals, load, life);
    vec![
        new("fast errors", 4, 0.5, 0.0).fault(3, When::From(0.0), FAST_ERRORS),
        new("fast errors, rate reported", 4, 0.5, 0.0)
            .fault(3, When::From(0.0), FAST_ERRORS)
            .with(|it| it.reports_errors = true),
        new("disk wait", 4, 0.65, 0.0).fault(3, When::From(0.0), DISK),
        new("disk wait, 20 reals", 20, 0.65, 0.0).fault(3, When::From(0.0), DISK),
        new("noisy neighbour, 1 : 8", 4, 0.65, 0.0)
            .unequal(true)
            .fault(3, When::From(0.0), NEIGHBOUR),
        new(
            "60 s late, unannounced, life 600, 20 reals",
            20,
            0.65,
            600.0,
        )
        .with(|it| (it.late, it.reports_age) = (12, false)),
        new("a sensor doubles", 4, 0.8, 0.0).fault(3, When::From(0.0), What::Sensor(Scaled(2.0))),
        new("a sensor halves", 4, 0.8, 0.0).fault(3, When::From(0.0), What::Sensor(Scaled(0.5))),
        new("half die for 60 s", 4, 0.55, 0.0).faults(0..2, When::During(60.0, 120.0), What::Dead),
        new("half die for 60 s, life 600", 4, 0.55, 600.0).faults(
            0..2,
            When::During(60.0, 120.0),
            What::Dead,
        ),
        new("burst of 5 ×", 4, 0.22, 0.0).with(|it| {
            it.demand = Demand::Burst {
                from: 60.0,
                to: 120.0,
                times: 5.0,
            };
            it.length = 1_500.0;
        }),
    ]
}

/// Situations in which steering is to gain.
fn gains() -> Vec<Scenario> {
    let mut all = Vec::new();
    for load in [0.5, 0.65, 0.8] {
        let name = format!("1 : 8 with equal weights, load {load}");
        all.push(Scenario::new(&name, Gain, 4, load, 0.0).unequal(false));
    }
    all
}

/// Variants and mirror images.
fn variants() -> Vec<Scenario> {
    let new = |name: &str, reals, load, life| Scenario::new(name, Variant, reals, load, life);
    let _ = (
        Probe::None,
        Frozen,
        Inverted,
        Offset(0.0),
        Silent,
        Stuck(0.0),
    );
    vec![new("plain", 4, 0.65, 0.0)]
}

/// Returns all situations.
pub fn all() -> Vec<Scenario> {
    [known(), variants(), gains()]
        .into_iter()
        .flatten()
        .collect()
}
