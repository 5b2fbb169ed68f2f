//! The floor: a few short situations in which steering may not do harm, and in which it is to gain.

use super::{
    Policy, catalogue,
    play::play,
    report::{MOST_LATE, MOST_LOST},
    scenario::Scenario,
};

/// Seconds of learning, and seconds that count: enough for what is wrong to show, few enough for a test.
const WARM: f64 = 150.0;
const LENGTH: f64 = 240.0;
const SEED: u64 = 1;

fn find(name: &str) -> Scenario {
    let mut all = catalogue::all().into_iter();
    let found = all.find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("no situation is called {name}"))
}

/// Returns lost and late requests in percent, under steering and with the operator's weights.
fn play_short(name: &str) -> [(f64, f64); 2] {
    let scenario = find(name).with(|it| (it.warm, it.length) = (WARM, LENGTH));
    [Policy::Steering, Policy::Operator].map(|policy| {
        let outcome = play(&scenario, policy, SEED);
        (outcome.lost_percent(), outcome.late_percent())
    })
}

fn assert_floor(names: &[&str]) {
    for name in names {
        let [steering, operator] = play_short(name);
        let harm = steering.0 - operator.0 > MOST_LOST || steering.1 - operator.1 > MOST_LATE;
        assert!(
            !harm,
            "{name}: lost and late % are {steering:.1?} under steering, {operator:.1?} without"
        );
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<String> = catalogue::all().into_iter().map(|it| it.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_play_follows_from_its_seed() {
    let scenario = find("plain, load 0.3").with(|it| (it.warm, it.length) = (20.0, 40.0));
    let requests = |seed| play(&scenario, Policy::Steering, seed).requests;
    assert_eq!(requests(1), requests(1));
    assert_ne!(requests(1), requests(2));
    // 1,500 requests a second at load 1, within four standard deviations.
    let expected: f64 = 1_500.0 * 0.3 * 40.0;
    assert!((requests(1) - expected).abs() < 4.0 * expected.sqrt());
}

#[test]
fn servers_that_fail_get_no_more_than_their_share() {
    assert_floor(&[
        "fast errors, load 0.5",
        "fast errors, rate reported, load 0.5",
        "fast errors, load 0.5, utilisation only",
        "0.5 errors at 0.1 of the work, load 0.5",
    ]);
}

#[test]
fn servers_that_wait_for_what_is_not_read_get_no_more_than_their_share() {
    assert_floor(&[
        "disk wait, load 0.65",
        "disk wait, load 0.65, utilisation only",
        "noisy neighbour, 1 : 8, load 0.65",
    ]);
}

#[test]
fn wrong_sensors_do_no_harm() {
    assert_floor(&[
        "a sensor halves, load 0.8",
        "a sensor doubles, load 0.8",
        "a sensor is inverted, load 0.8",
        "all sensors freeze, load 0.8",
    ]);
}

#[test]
fn storms_do_no_harm() {
    assert_floor(&["half die for 60 s, load 0.55", "burst of 5 ×, load 0.22"]);
}

#[test]
fn steering_gains_where_weights_do_not_fit() {
    for name in [
        "1 : 8 with equal weights, load 0.5",
        "1 : 8 with equal weights, load 0.65",
        "half the speed, and it says so, load 0.65",
    ] {
        let [steering, operator] = play_short(name);
        let bad = |(lost, late): (f64, f64)| lost + late;
        assert!(
            bad(operator) > 10.0 && bad(steering) < bad(operator) / 4.0,
            "{name}: lost and late % are {steering:.1?} under steering, {operator:.1?} without"
        );
    }
}
