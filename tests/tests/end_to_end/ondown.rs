//! Dead reals, services without reals, shed flows and probes through the tunnel, on a data plane in the kernel that the
//! test controls directly.

pub mod probes;
pub mod shed;
mod testbed;

use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

use lb_dataplane::WhenEmpty;
use lb_model::options::{Forward, OnDown};

use self::testbed::{Connection, DataplaneTestbed, Ways};

/// Number of connections; about half of them are on the dead real.
const CONNECTIONS: usize = 24;
/// Limit for a client to notice that its real is dead.
const NOTICED: Duration = Duration::from_secs(15);

pub fn clients_of_a_dead_real_are_reset_and_others_are_not_disturbed() {
    for ways in Ways::ALL {
        let mut testbed = DataplaneTestbed::new(ways, 2);
        testbed.serve(&[], &[0, 1]);
        let mut connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| testbed.connect().unwrap())
            .collect();
        let dead = connections
            .iter()
            .filter(|connection| connection.real == 0)
            .count();
        assert!(dead > 0 && dead < CONNECTIONS, "{dead} of {CONNECTIONS}");

        // The link goes down before the server ends, so that the clients get no reset from it.
        testbed.unplug(0);
        testbed.stop_server(0);
        testbed.serve(&[(0, OnDown::Reset)], &[1]);
        let mut longest = Duration::ZERO;
        for connection in &mut connections {
            let began = Instant::now();
            let answer = connection.exchange();
            if connection.real == 0 {
                let error = answer.expect_err("its real is dead").kind();
                assert_eq!(error, ErrorKind::ConnectionReset, "{ways:?}");
                longest = longest.max(began.elapsed());
            } else {
                answer.unwrap();
            }
        }
        println!("{ways:?}: {dead} clients were reset within {longest:?}");
        assert!(longest < NOTICED, "{ways:?}: {longest:?}");
        // A client that retransmits before the reset arrives gets another one.
        let resets = testbed.reasons()["reset_down_real"];
        assert!(resets >= dead as u64, "{ways:?}: {resets} of {dead}");
        let mut new_connections: Vec<Connection> = (0..CONNECTIONS)
            .map(|_| testbed.connect().unwrap())
            .collect();
        assert!(
            new_connections
                .iter()
                .all(|connection| connection.real == 1),
            "{ways:?}"
        );

        // The real is back, and no further client is reset.
        testbed.plug(0);
        testbed.start_server(0);
        testbed.serve(&[], &[0, 1]);
        for connection in connections
            .iter_mut()
            .filter(|connection| connection.real == 1)
            .chain(&mut new_connections)
        {
            connection.exchange().unwrap();
        }
        assert_eq!(testbed.reasons()["reset_down_real"], resets, "{ways:?}");
        let back = (0..CONNECTIONS).any(|_| testbed.connect().unwrap().real == 0);
        assert!(back, "{ways:?}: it takes new connections");
    }
}

pub fn a_service_without_reals_refuses_connections_if_configured() {
    for ways in [Ways::V4, Ways::V6] {
        let mut testbed = DataplaneTestbed::new(ways, 1);
        testbed.when_empty = WhenEmpty::Reset;
        testbed.serve(&[(0, OnDown::Rehash)], &[]);
        let target = testbed.target();
        let error = testbed
            .client
            .enter(|| TcpStream::connect_timeout(&target, testbed::PATIENCE))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ways:?}");
        assert_eq!(testbed.reasons()["reset_no_real"], 1);
        testbed.serve(&[], &[0]);
        testbed.connect().unwrap();
    }
}

impl Ways {
    /// The combinations of families and modes that take different paths through the data path.
    const ALL: [Ways; 3] = [Ways::V4, Ways::V6, Ways::L2];
    const V4: Ways = Ways::new(false, false, Forward::Ipip);
    const V6: Ways = Ways::new(true, true, Forward::Ipip);
    const L2: Ways = Ways::new(false, false, Forward::L2);
}
