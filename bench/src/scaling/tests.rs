//! A small form of the simulation: the aims of the law, with one seed.

use super::{
    brokers,
    laws::Law,
    play::{Outcome, play, play_with},
    pool::Knowledge,
    trace::Trace,
};

const SEED: u64 = 1;

fn lost(trace: &str, law: Law, start_up: f64, knowledge: Knowledge) -> Outcome {
    play(&Trace::of(trace), law, start_up, knowledge, SEED)
}

#[test]
fn a_play_follows_from_its_seed() {
    let starts = |seed| {
        let trace = Trace::of("step");
        let outcome = play(&trace, Law::Ours, 20.0, Knowledge::Unequal, seed);
        (outcome.lost, outcome.offered)
    };
    assert_eq!(starts(1), starts(1));
    assert_ne!(starts(1), starts(2));
}

#[test]
fn a_step_loses_little_with_learned_capacities() {
    let slow = lost("step", Law::Ours, 20.0, Knowledge::Learned);
    assert!(slow.lost_percent() <= 1.0, "{:.2}", slow.lost_percent());
    let fast = lost("step", Law::Ours, 3.0, Knowledge::Learned);
    assert!(fast.lost_percent() <= 0.3, "{:.2}", fast.lost_percent());
    assert!(slow.over_ideal() < 1.15 && fast.over_ideal() < 1.15);
}

#[test]
fn warm_instances_serve_at_once() {
    let trace = Trace::of("step");
    let cold = play(&trace, Law::Ours, 20.0, Knowledge::Learned, SEED);
    let warm = play_with(&trace, Law::Ours, 20.0, Knowledge::Learned, SEED, 4);
    assert!(
        warm.lost_percent() < cold.lost_percent() / 2.0,
        "{:.2} against {:.2}",
        warm.lost_percent(),
        cold.lost_percent()
    );
}

#[test]
fn no_trace_is_worse_than_with_hpa() {
    for trace in Trace::all() {
        for knowledge in [Knowledge::Learned, Knowledge::Unequal] {
            // Where neither readings nor counts are left, chance decides how many instances there are.
            if trace.counts(700.0) || knowledge == Knowledge::Learned {
                let percent = |law| play(&trace, law, 20.0, knowledge, SEED).lost_percent();
                let (ours, hpa) = (percent(Law::Ours), percent(Law::Hpa));
                assert!(
                    ours <= hpa * 1.1 + 0.05,
                    "{} {knowledge:?}: {ours:.2} against {hpa:.2}",
                    trace.name
                );
            }
        }
    }
}

#[test]
fn a_square_starts_few_instances() {
    let square = lost("square", Law::Ours, 20.0, Knowledge::Learned);
    assert!(square.starts <= 12.0, "{}", square.starts);
}

#[test]
fn flat_demand_at_a_boundary_is_left_alone() {
    // Two of the ten hours.
    let trace = Trace {
        length: 7_200.0,
        ..Trace::calm()
    };
    let calm = play(&trace, Law::Ours, 20.0, Knowledge::Learned, SEED);
    assert_eq!((calm.actions, calm.starts), (0.0, 0.0));
}

#[test]
fn brokers_are_filled_and_emptied_by_shedding() {
    let outcome = brokers::play(200.0, SEED);
    assert_eq!((outcome.most, outcome.last), (6, 3));
    assert!(
        outcome.balanced < 1_200.0 && outcome.highest < 0.9,
        "{outcome:?}"
    );
    // No client is cut off but those that are shed.
    assert!(outcome.cut < 3.0, "{outcome:?}");
}
