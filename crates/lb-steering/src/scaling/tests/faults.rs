//! Faults: clocks that jump, drivers that hang, instances that never become healthy.

use lb_model::scaling::Scaling;

use super::pool::{Pool, seconds};
use crate::scaling::Phase;

fn pool(count: u32, rate: f64) -> Pool {
    let settings = Scaling {
        max: 100,
        ..Scaling::default()
    };
    Pool::new(settings, count, rate)
}

#[test]
fn a_clock_that_jumps_ends_no_window() {
    for jump in [-86_400_i64, 86_400] {
        let mut pool = pool(10, 350.0);
        pool.play(200);
        let now = pool.clock.now.as_secs().saturating_add_signed(jump);
        pool.clock.now = seconds(now);
        let mut after = 0;
        while pool.play(1).drain.is_empty() {
            after += 1;
            assert!(after < 1_000);
        }
        assert!(after >= 50, "{jump}: {after} s");
    }
}

#[test]
fn a_driver_that_hangs_is_not_asked_for_more() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.rate = 1_260.0;
    // What was ordered counts although it does not exist yet.
    pool.start_up = seconds(100_000);
    pool.play(500);
    assert_eq!(pool.count(Phase::Starting), 5);
}

#[test]
fn instances_that_never_become_healthy_make_room_for_others() {
    let mut pool = pool(5, 350.0);
    pool.play(100);
    pool.rate = 1_260.0;
    pool.start_up = seconds(100_000);
    pool.play(120);
    // Their start deadline has passed: they are rolled back, and others are ordered.
    pool.readings
        .instances
        .retain(|one| one.phase != Phase::Starting);
    pool.start_up = seconds(3);
    pool.play(60);
    assert_eq!(pool.count(Phase::Serving), 18);
}

#[test]
fn calls_may_come_at_any_time() {
    let mut pool = pool(5, 350.0);
    pool.wait(seconds(0));
    for _ in 0..30 {
        pool.wait(seconds(5));
    }
    pool.rate = 1_260.0;
    for _ in 0..20 {
        pool.wait(seconds(5));
    }
    assert_eq!(pool.count(Phase::Serving), 18);
}
