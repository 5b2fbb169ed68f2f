//! Reals that die, services without reals, flows that are shed, probes through the tunnel: on a data plane in
//! the kernel that is told what to do by the test.

mod ground;
mod probes;
mod shed;

use std::{
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

use lb_dataplane::WhenEmpty;
use lb_model::options::{Forward, OnDown};

use self::ground::{Ground, Talk, Ways};

/// Connections, of which about half are a dead real's.
const TALKS: usize = 24;
/// A client must know within this time that its real is dead.
const KNOWN: Duration = Duration::from_secs(15);

#[test]
fn clients_of_a_dead_real_are_told_and_others_are_not_disturbed() {
    for ways in Ways::ALL {
        let mut ground = Ground::new(ways, 2);
        ground.serve(&[], &[0, 1]);
        let mut talks: Vec<Talk> = (0..TALKS).map(|_| ground.talk().unwrap()).collect();
        let dead = talks.iter().filter(|talk| talk.real == 0).count();
        assert!(dead > 0 && dead < TALKS, "{dead} of {TALKS}");

        // Its cable is pulled, then its server is gone: nobody tells the clients.
        ground.unplug(0);
        ground.stop_server(0);
        ground.serve(&[(0, OnDown::Reset)], &[1]);
        let mut longest = Duration::ZERO;
        for talk in &mut talks {
            let began = Instant::now();
            let said = talk.say();
            if talk.real == 0 {
                let error = said.expect_err("its real is dead").kind();
                assert_eq!(error, ErrorKind::ConnectionReset, "{ways:?}");
                longest = longest.max(began.elapsed());
            } else {
                said.unwrap();
            }
        }
        println!("{ways:?}: {dead} clients knew within {longest:?}");
        assert!(longest < KNOWN, "{ways:?}: {longest:?}");
        // One whose answer came late has sent again, and was answered again.
        let told = ground.reasons()["reset_down_real"];
        assert!(told >= dead as u64, "{ways:?}: {told} of {dead}");
        let mut young: Vec<Talk> = (0..TALKS).map(|_| ground.talk().unwrap()).collect();
        assert!(young.iter().all(|talk| talk.real == 1), "{ways:?}");

        // It is back. Nobody is told that it was not.
        ground.plug(0);
        ground.start_server(0);
        ground.serve(&[], &[0, 1]);
        for talk in talks
            .iter_mut()
            .filter(|talk| talk.real == 1)
            .chain(&mut young)
        {
            talk.say().unwrap();
        }
        assert_eq!(ground.reasons()["reset_down_real"], told, "{ways:?}");
        let back = (0..TALKS).any(|_| ground.talk().unwrap().real == 0);
        assert!(back, "{ways:?}: it takes new connections");
    }
}

#[test]
fn a_service_without_reals_refuses_at_once_if_it_is_told_to() {
    for ways in [Ways::V4, Ways::V6] {
        let mut ground = Ground::new(ways, 1);
        ground.when_empty = WhenEmpty::Reset;
        ground.serve(&[(0, OnDown::Rehash)], &[]);
        let target = ground.target();
        let error = ground
            .client
            .enter(|| TcpStream::connect_timeout(&target, ground::PATIENCE))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ways:?}");
        assert_eq!(ground.reasons()["reset_no_real"], 1);
        ground.serve(&[], &[0]);
        ground.talk().unwrap();
    }
}

impl Ways {
    /// Families of VIP and reals, and modes, that differ in what a packet goes through.
    const ALL: [Ways; 3] = [Ways::V4, Ways::V6, Ways::L2];
    const V4: Ways = Ways::new(false, false, Forward::Ipip);
    const V6: Ways = Ways::new(true, true, Forward::Ipip);
    const L2: Ways = Ways::new(false, false, Forward::L2);
}
