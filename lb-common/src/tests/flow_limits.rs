//! Limits of the connections that begin.

use super::testbed::*;
use crate::{
    flow_limits::{FlowLimit, FlowLimits},
    limits::TICK_SHIFT,
    memory::{MemFrame, simulate},
    reason::{Reason, Verdict},
    tables::{real::LIMITED, service::RESET_LIMITED},
};

/// A tick in nanoseconds.
const TICK: u64 = 1 << TICK_SHIFT;

/// A service with one real and these limits.
fn limited(limits: FlowLimits) -> (Testbed, u32, u16) {
    let mut testbed = Testbed::new();
    let (service, real) = testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    testbed.tables.services[service as usize].limits = limits;
    testbed.tables.reals[real as usize].flags |= LIMITED;
    // The clock of a host that runs: 0 is when the tables were made.
    testbed.tables.now = 1_000;
    (testbed, service, real)
}

/// One connection a tick, three at once.
fn three_at_once() -> FlowLimit {
    FlowLimit {
        interval: TICK as u32,
        burst: 3,
    }
}

/// How many of so many SYNs get through.
fn admitted(testbed: &mut Testbed, source: [u8; 4], count: u16) -> usize {
    let begins = |port: u16| {
        let mut frame = tcp4(80, SYN);
        frame[26..30].copy_from_slice(&source);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame
    };
    (0..count)
        .filter(|port| {
            let reason = testbed.run(&begins(10_000 + port)).0.reason;
            assert!(matches!(
                reason,
                Reason::ForwardedTx | Reason::FlowLimited | Reason::FlowLimitedReset
            ));
            reason == Reason::ForwardedTx
        })
        .count()
}

#[test]
fn a_burst_is_admitted_and_then_the_rate() {
    let kinds = [
        FlowLimits {
            service: three_at_once(),
            ..FlowLimits::default()
        },
        FlowLimits {
            real: three_at_once(),
            ..FlowLimits::default()
        },
        FlowLimits {
            source: three_at_once(),
            source_mask4: u32::MAX,
            ..FlowLimits::default()
        },
    ];
    for limits in kinds {
        let (mut testbed, ..) = limited(limits);
        let client = [198, 51, 100, 7];
        assert_eq!(admitted(&mut testbed, client, 10), 3, "{limits:?}");
        for _ in 0..5 {
            testbed.tables.now += 1;
            assert_eq!(admitted(&mut testbed, client, 10), 1, "{limits:?}");
        }
        testbed.tables.now += 2;
        assert_eq!(admitted(&mut testbed, client, 10), 2, "{limits:?}");
        // A long rest saves up no more than a burst.
        testbed.tables.now += 100_000;
        assert_eq!(admitted(&mut testbed, client, 10), 3, "{limits:?}");
    }
}

#[test]
fn what_belongs_to_running_connections_is_not_limited() {
    let (mut testbed, service, real) = limited(FlowLimits {
        service: FlowLimit {
            interval: u32::MAX,
            burst: 1,
        },
        ..FlowLimits::default()
    });
    for _ in 0..10 {
        let outcome = testbed.run(&tcp4(80, ACK)).0;
        assert_eq!((outcome.reason, outcome.real), (Reason::ForwardedTx, real));
    }
    assert_eq!(testbed.run(&tcp4(80, SYN)).0.reason, Reason::ForwardedTx);
    let refused = testbed.run(&tcp4(80, SYN)).0;
    assert_eq!(
        (refused.reason, refused.verdict, refused.service),
        (Reason::FlowLimited, Verdict::Drop, service)
    );
    let counters = testbed.tables.counters();
    assert_eq!(counters.services[service as usize].dropped_packets, 1);
    assert_eq!(counters.reals[real as usize].opened, 1);
    // A repeated SYN of a connection that was refused is refused, too.
    assert_eq!(testbed.run(&tcp4(80, SYN)).0.reason, Reason::FlowLimited);
}

#[test]
fn a_refused_connection_is_reset_if_that_is_wanted() {
    let (mut testbed, service, _) = limited(FlowLimits {
        service: FlowLimit {
            interval: u32::MAX,
            burst: 1,
        },
        ..FlowLimits::default()
    });
    testbed.tables.services[service as usize].flags |= RESET_LIMITED;
    assert_eq!(testbed.run(&tcp4(80, SYN)).0.reason, Reason::ForwardedTx);
    let (outcome, frame) = testbed.run(&tcp4(80, SYN));
    assert_eq!(
        (outcome.reason, outcome.verdict),
        (Reason::FlowLimitedReset, Verdict::Tx)
    );
    let tcp = &frame[34..54];
    assert_eq!(tcp[13], 0x14, "RST and ACK");
    assert_eq!(u16::from_be_bytes([tcp[0], tcp[1]]), 80);
}

#[test]
fn clients_that_exceed_their_limit_take_nothing_from_others() {
    let (mut testbed, ..) = limited(FlowLimits {
        source: three_at_once(),
        source_mask4: u32::from_ne_bytes([255, 255, 255, 0]),
        service: FlowLimit {
            interval: TICK as u32,
            burst: 100,
        },
        ..FlowLimits::default()
    });
    // Two clients of one prefix share its limit, whatever they do beside it costs the service nothing.
    assert_eq!(admitted(&mut testbed, [198, 51, 100, 7], 500), 3);
    assert_eq!(admitted(&mut testbed, [198, 51, 100, 8], 500), 0);
    let others = (0..32).map(|number| admitted(&mut testbed, [203, 0, number, 1], 4));
    assert_eq!(others.collect::<std::vec::Vec<_>>(), [3; 32]);
    // Then the service's own limit is reached: 3 + 96 + 1.
    assert_eq!(admitted(&mut testbed, [192, 0, 2, 1], 3), 1);
}

#[test]
fn a_flood_of_many_prefixes_refuses_few_of_the_others() {
    let (mut testbed, ..) = limited(FlowLimits {
        source: FlowLimit {
            interval: u32::MAX,
            burst: 1,
        },
        source_mask4: u32::from_ne_bytes([255, 255, 255, 0]),
        ..FlowLimits::default()
    });
    for prefix in 0..1_000_u16 {
        let [high, low] = prefix.to_be_bytes();
        admitted(&mut testbed, [100, high, low, 1], 2);
    }
    let refused = (0..10_000_u16)
        .filter(|prefix| {
            let [high, low] = prefix.to_be_bytes();
            // Its words are its own afterwards, so each prefix asks a simulation.
            let mut frame = tcp4(80, SYN);
            frame[26..30].copy_from_slice(&[172, high, low, 1]);
            let mut memory = MemFrame::new(&frame);
            simulate(&mut testbed.tables, &mut memory).reason == Reason::FlowLimited
        })
        .count();
    // Chance: (2,000 / 65,536)² = 0.09 %.
    assert!(refused < 30, "{refused} of 10,000");
}

#[test]
fn a_simulation_takes_nothing_from_a_limit() {
    let (mut testbed, ..) = limited(FlowLimits {
        service: three_at_once(),
        ..FlowLimits::default()
    });
    for _ in 0..10 {
        let mut memory = MemFrame::new(&tcp4(80, SYN));
        let outcome = simulate(&mut testbed.tables, &mut memory);
        assert_eq!(outcome.reason, Reason::ForwardedTx);
    }
    assert_eq!(admitted(&mut testbed, [198, 51, 100, 7], 10), 3);
}

#[test]
fn limits_of_a_rate_have_its_interval_and_burst() {
    for (rate, burst, interval, expected) in [
        (1, 1_000_000_000, 1_000_000_000, 1),
        (1, 10_000_000_000, 1_000_000_000, 10),
        (1_000, 1_000_000_000, 1_000_000, 1_000),
        (1_000, 1, 1_000_000, 1),
        (10_000_000, u64::MAX, 100, u32::MAX),
    ] {
        let limit = FlowLimit::new(rate, burst);
        assert_eq!((limit.interval, limit.burst), (interval, expected));
    }
    let limits = FlowLimits {
        source_mask6: 1,
        source_mask4: 2,
        source: FlowLimit {
            interval: 3,
            burst: 4,
        },
        service: FlowLimit {
            interval: 5,
            burst: 6,
        },
        real: FlowLimit {
            interval: 7,
            burst: 8,
        },
        pad: 0,
    };
    let words = [1, 2 | 3 << 32, 4 | 5 << 32, 6 | 7 << 32, 8];
    assert_eq!(limits.words(), words.map(u64::to_le));
}
