//! A drain is taken back at once and costs nothing.

use lb_model::scaling::Scaling;

use super::pool::Pool;
use crate::scaling::Phase;

#[test]
fn a_square_wave_starts_nothing_twice() {
    let settings = Scaling {
        max: 100,
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 5, 350.0);
    pool.play(200);
    let mut started = 0;
    for half in 0..20 {
        pool.rate = if half % 2 == 0 { 1_050.0 } else { 350.0 };
        for _ in 0..120 {
            started += pool.play(1).start;
        }
    }
    assert!(started <= 12, "{started}");
}

#[test]
fn the_pool_grows_back_by_what_is_drained() {
    let settings = Scaling {
        max: 100,
        ..Scaling::default()
    };
    let mut pool = Pool::new(settings, 8, 300.0);
    pool.play(420);
    let drained = pool.count(Phase::Draining);
    assert!(drained >= 2);
    pool.rate = 560.0;
    let mut started = 0;
    for _ in 0..60 {
        started += pool.play(1).start;
    }
    assert_eq!((started, pool.count(Phase::Serving)), (0, 8));
}
