//! Packets of SCTP.

use super::testbed::*;
use crate::{
    reason::Reason,
    tables::{ring::Previous, service::TRACK_ALL},
};

const DATA: u8 = 0;
const INIT: u8 = 1;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_COMPLETE: u8 = 14;

#[test]
fn associations_are_forwarded_and_counted() {
    let mut testbed = Testbed::new();
    let (_, index) = testbed.served("10.0.0.1:9/sctp", "10.1.0.2", 1);
    for (chunk, opened, closed) in [
        (INIT, 1, 0),
        (DATA, 1, 0),
        (SHUTDOWN, 1, 0),
        (SHUTDOWN_COMPLETE, 1, 1),
        (ABORT, 1, 2),
    ] {
        let outcome = testbed.run(&sctp4(9, chunk)).0;
        assert_eq!(outcome.reason, Reason::ForwardedTx);
        let real = testbed.tables.counters().reals[index as usize];
        assert_eq!((real.opened, real.closed), (opened, closed), "{chunk}");
    }
    assert_eq!(testbed.run(&sctp4(10, DATA)).0.reason, Reason::NotVip);
    let mut short = sctp4(9, DATA);
    short.truncate(short.len() - 1);
    short[17] -= 1;
    assert_eq!(testbed.run(&short).0.reason, Reason::Malformed);
}

#[test]
fn an_association_keeps_its_real_when_the_slot_changes() {
    let mut testbed = Testbed::new();
    let (service, old) = testbed.served("10.0.0.1:9/sctp", "10.1.0.2", 1);
    testbed.tables.services[service as usize].flags = TRACK_ALL;
    assert_eq!(testbed.run(&sctp4(9, INIT)).0.real, old);
    let new = testbed.real(service, "10.1.0.3", 1);
    testbed.slots(service, new, Previous::Real(old));
    assert_eq!(testbed.run(&sctp4(9, DATA)).0.real, old);
    // It runs, so what begins anew is a restart of the association (RFC 9260 section 5.2).
    assert_eq!(testbed.run(&sctp4(9, INIT)).0.real, old);
    assert_eq!(testbed.run(&sctp4(9, ABORT)).0.real, old);
    assert_eq!(testbed.run(&sctp4(9, INIT)).0.real, new);
}
