//! So many flows are ended, at both ends.

use std::{
    io::ErrorKind,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use lb_dataplane::Dataplane as _;
use lb_tests::wait_for;

use super::ground::{Ground, PATIENCE, Talk, Ways};

const TALKS: usize = 20;
const SHED: u32 = 6;
/// Both ends must know within this time.
const KNOWN: Duration = Duration::from_secs(15);

#[test]
fn so_many_flows_end_at_both_ends_and_no_more() {
    for ways in Ways::ALL {
        let mut ground = Ground::new(ways, 2);
        ground.serve(&[], &[0]);
        let vip = ground.wanted(&[], &[0]).vip;
        let mut talks: Vec<Talk> = (0..TALKS).map(|_| ground.talk().unwrap()).collect();
        let real = ground.address(0);
        assert_eq!(ground.plane.shed(&vip, real, SHED).unwrap(), 0);
        let mut longest = Duration::ZERO;
        let mut ended = 0;
        for talk in &mut talks {
            let began = Instant::now();
            if let Err(error) = talk.say() {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{ways:?}");
                longest = longest.max(began.elapsed());
                ended += 1;
            }
        }
        let server = ground.reals[0].server.as_ref().unwrap();
        let began = Instant::now();
        wait_for("the server to know", PATIENCE, || {
            Ok((server.ended.load(Ordering::SeqCst) == u64::from(SHED)).then_some(()))
        })
        .unwrap();
        println!(
            "{ways:?}: {ended} clients knew within {longest:?}, their server {:?} later",
            began.elapsed()
        );
        assert_eq!(ended, SHED, "{ways:?}");
        assert!(longest < KNOWN, "{ways:?}: {longest:?}");
        // The order is carried out: the others talk on, and so do new ones.
        assert_eq!(ground.plane.shed(&vip, real, 0).unwrap(), 0);
        let alive = talks.iter_mut().filter_map(|talk| talk.say().ok()).count();
        assert_eq!(alive, TALKS - SHED as usize, "{ways:?}");
        for _ in 0..TALKS {
            ground.talk().unwrap().say().unwrap();
        }
    }
}

/// Its slots have another real by the time that the client sends its data again.
#[test]
fn what_is_sent_again_reaches_the_real_that_knows() {
    let mut ground = Ground::new(Ways::V4, 2);
    ground.serve(&[], &[0]);
    let vip = ground.wanted(&[], &[0]).vip;
    let mut talks: Vec<Talk> = (0..TALKS).map(|_| ground.talk().unwrap()).collect();
    let real = ground.address(0);
    ground.serve(&[], &[1]);
    ground.plane.shed(&vip, real, TALKS as u32).unwrap();
    for talk in &mut talks {
        let error = talk.say().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(ground.talk().unwrap().real, 1, "it connects anew elsewhere");
    }
    let server = ground.reals[0].server.as_ref().unwrap();
    wait_for("the server to know", PATIENCE, || {
        Ok((server.ended.load(Ordering::SeqCst) == TALKS as u64).then_some(()))
    })
    .unwrap();
}
