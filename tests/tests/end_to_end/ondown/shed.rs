//! Shedding ends flows at both ends.

use std::{
    io::ErrorKind,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use lb_dataplane::Dataplane as _;
use lb_tests::wait_for;

use super::testbed::{Connection, DataplaneTestbed, PATIENCE, Ways};

const CONNECTIONS: usize = 20;
const SHED: u32 = 6;
/// Limit for both ends to notice.
const NOTICED: Duration = Duration::from_secs(15);

pub fn the_requested_number_of_flows_ends_at_both_ends() {
    for ways in Ways::ALL {
        let mut testbed = DataplaneTestbed::new(ways, 2);
        testbed.serve(&[], &[0]);
        let vip = testbed.service(&[], &[0]).vip;
        let mut connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| testbed.connect().unwrap())
            .collect();
        let real = testbed.id(0);
        assert_eq!(testbed.plane.shed(&vip, real, SHED).unwrap(), 0);
        let mut longest = Duration::ZERO;
        let mut ended = 0;
        for connection in &mut connections {
            let began = Instant::now();
            if let Err(error) = connection.exchange() {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{ways:?}");
                longest = longest.max(began.elapsed());
                ended += 1;
            }
        }
        let server = testbed.backends[0].server.as_ref().unwrap();
        let began = Instant::now();
        wait_for("the end of the connections at the server", PATIENCE, || {
            Ok((server.ended.load(Ordering::SeqCst) == u64::from(SHED)).then_some(()))
        })
        .unwrap();
        println!(
            "{ways:?}: {ended} clients were reset within {longest:?}, their server noticed {:?} later",
            began.elapsed()
        );
        assert_eq!(ended, SHED, "{ways:?}");
        assert!(longest < NOTICED, "{ways:?}: {longest:?}");
        // Nothing is left to shed: the other connections work, and so do new ones.
        assert_eq!(testbed.plane.shed(&vip, real, 0).unwrap(), 0);
        let alive = connections
            .iter_mut()
            .filter_map(|connection| connection.exchange().ok())
            .count();
        assert_eq!(alive, CONNECTIONS - SHED as usize, "{ways:?}");
        for _ in 0..CONNECTIONS {
            testbed.connect().unwrap().exchange().unwrap();
        }
    }
}

/// The slots have another real by the time of the client's retransmission.
pub fn a_retransmission_reaches_the_real_that_knows_the_flow() {
    let mut testbed = DataplaneTestbed::new(Ways::V4, 2);
    testbed.serve(&[], &[0]);
    let vip = testbed.service(&[], &[0]).vip;
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| testbed.connect().unwrap())
        .collect();
    let real = testbed.id(0);
    testbed.serve(&[], &[1]);
    testbed.plane.shed(&vip, real, CONNECTIONS as u32).unwrap();
    for connection in &mut connections {
        let error = connection.exchange().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(
            testbed.connect().unwrap().real,
            1,
            "it reconnects to the other real"
        );
    }
    let server = testbed.backends[0].server.as_ref().unwrap();
    wait_for("the end of the connections at the server", PATIENCE, || {
        Ok((server.ended.load(Ordering::SeqCst) == CONNECTIONS as u64).then_some(()))
    })
    .unwrap();
}
