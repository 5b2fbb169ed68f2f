//! Relaunches: budget, backoff, and the limit above which nothing is killed.

use lb_model::scaling::Scaling;

use super::pool::seconds;
use crate::scaling::{
    Backoff, Patient, RelaunchState, Vitality, is_mass_failure, relaunch, relaunch_budget,
};

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

fn patients(states: &[Vitality]) -> Vec<Patient<'static>> {
    let pairs = NAMES.iter().zip(states);
    pairs
        .map(|(name, vitality)| Patient {
            name,
            vitality: *vitality,
        })
        .collect()
}

#[test]
fn one_dead_instance_is_never_too_many() {
    let settings = Scaling::default();
    let counts = [(1, 1), (1, 2), (2, 2), (2, 6), (2, 7), (3, 10), (4, 10)];
    let found = counts.map(|(dead, of)| is_mass_failure(&settings, dead, of));
    assert_eq!(found, [false, false, true, true, false, false, true]);
    assert_eq!(
        [1, 4, 5, 10, 19, 100].map(|of| relaunch_budget(&settings, of)),
        [1, 1, 1, 2, 3, 20]
    );
}

#[test]
fn waits_double_up_to_the_longest() {
    let settings = Scaling::default();
    let mut backoff = Backoff::default();
    for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        backoff.fail(&settings, seconds(100), "a");
        let wait = backoff.wait(seconds(100)).as_secs_f64();
        assert!(
            (expected * 0.75..=expected).contains(&wait),
            "{expected}: {wait}"
        );
    }
    for _ in 0..100 {
        backoff.fail(&settings, seconds(100), "a");
    }
    assert!(backoff.wait(seconds(100)) <= seconds(60));
    // Instances that fail together do not start together.
    let wait = |name| {
        let mut backoff = Backoff::default();
        backoff.fail(&settings, seconds(100), name);
        backoff.wait(seconds(100))
    };
    assert_ne!(wait("a"), wait("b"));
    assert_eq!(wait("a"), wait("a"));
    // It counts as mended after ten minutes.
    assert!(!backoff.live(&settings, seconds(200)));
    assert!(!backoff.live(&settings, seconds(799)));
    assert!(backoff.live(&settings, seconds(800)));
    assert_eq!(backoff.failures(), 0);
}

#[test]
fn the_budget_bounds_relaunches_under_way() {
    let settings = Scaling::default();
    let mut state = RelaunchState::default();
    let mut vitality = [Vitality::Alive; 10];
    vitality[..3].fill(Vitality::Unhealthy);
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(100));
    assert_eq!((plan.out_of_rotation.len(), plan.relaunch.len()), (3, 0));
    assert!(!plan.mass_failure);
    // Their backoff is over: two of ten may be relaunched at a time.
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(101));
    assert_eq!(plan.relaunch, ["a", "b"]);
    vitality[..2].fill(Vitality::Starting);
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(110));
    assert_eq!((plan.relaunch.len(), plan.waiting.len()), (0, 1));
    // One is healthy, the other has failed again: there is room for the third, and the second waits for longer.
    vitality[0] = Vitality::Alive;
    vitality[1] = Vitality::Ended;
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(120));
    assert_eq!(plan.relaunch, ["c"]);
    assert_eq!(plan.waiting[0].0, "b");
    assert!(plan.waiting[0].1 > seconds(1));
}

#[test]
fn nothing_is_killed_in_a_mass_failure() {
    let settings = Scaling::default();
    let mut state = RelaunchState::default();
    let mut vitality = [Vitality::Unhealthy; 10];
    vitality[..5].fill(Vitality::Alive);
    for second in 100..400 {
        let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(second));
        assert!(plan.relaunch.is_empty() && plan.mass_failure);
        assert_eq!(plan.out_of_rotation.len(), 5);
    }
    // Nothing is killed where nothing runs.
    vitality[9] = Vitality::Ended;
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(500));
    assert_eq!(plan.relaunch, ["j"]);
    // When few are dead, they are relaunched.
    vitality[5..8].fill(Vitality::Alive);
    vitality[9] = Vitality::Alive;
    let plan = relaunch(&settings, &mut state, &patients(&vitality), seconds(501));
    assert_eq!(
        (plan.relaunch, plan.mass_failure),
        (vec!["i".to_owned()], false)
    );
}

#[test]
fn a_saved_state_goes_on() {
    let settings = Scaling::default();
    let mut state = RelaunchState::default();
    let vitality = [Vitality::Ended, Vitality::Alive, Vitality::Alive];
    relaunch(&settings, &mut state, &patients(&vitality), seconds(100));
    let saved = serde_json::to_string(&state).unwrap();
    let mut read: RelaunchState = serde_json::from_str(&saved).unwrap();
    assert_eq!(read, state);
    let next =
        |state: &mut RelaunchState| relaunch(&settings, state, &patients(&vitality), seconds(102));
    assert_eq!(next(&mut read), next(&mut state));
}
