//! Random frames: nothing panics, and what is forwarded is well-formed.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::{sent::assert_well_formed, testbed::*};
use crate::{
    forward::L2,
    memory::{MemFrame, simulate},
    reason::{Reason, Verdict},
    tables::ring::Previous,
};

fn testbed() -> Testbed {
    let mut testbed = Testbed::new();
    testbed.served("10.0.0.1:80/tcp", "10.1.0.2", 1);
    testbed.served("10.0.0.1:53/udp", "fd00::2", 2);
    let (service, real) = testbed.served("[2001:db8::1]:80/tcp", "10.1.0.3", 1);
    let other = testbed.real(service, "fd00::3", 1);
    testbed.slots(service, other, Previous::Real(real));
    let any = testbed.service("10.0.0.1:0/tcp");
    let l2 = testbed.l2_real(any, 2);
    testbed.slots(any, l2, Previous::Settled);
    testbed
}

/// A frame for a VIP, with some of its bytes changed and its end cut off or stretched.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(port, flags)| tcp4(port, flags)),
        (any::<u16>(), any::<u8>()).prop_map(|(port, flags)| tcp6(port, flags)),
        any::<u16>().prop_map(udp4),
        (0..13_u8, any::<u16>())
            .prop_map(|(kind, port)| { icmp_error4(kind, 4, 1_400, &answer_to(&tcp4(port, ACK))) }),
        (0..6_u8, any::<u16>())
            .prop_map(|(kind, port)| { icmp_error6(kind, 0, 1_400, &answer_to(&tcp6(port, ACK))) }),
    ];
    let bytes = prop::collection::vec((12..80_usize, any::<u8>()), 0..4);
    // Extension headers, so that the walk is walked.
    let headers = prop::collection::vec(
        prop::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 60]),
        0..8,
    );
    (whole, bytes, headers, -60..60_i32).prop_map(|(mut frame, bytes, headers, stretch)| {
        if frame[12] == 0x86 && !headers.is_empty() {
            let mut chain: Vec<u8> = headers
                .iter()
                .flat_map(|&next| [next, 0, 1, 4, 0, 0, 0, 0])
                .collect();
            let last = chain.len() - 8;
            chain[last] = 6;
            frame[20] = headers[0];
            let length = u16::from_be_bytes([frame[18], frame[19]]) + chain.len() as u16;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            frame.splice(54..54, chain);
        }
        for (at, byte) in bytes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        let length = frame.len().saturating_add_signed(stretch as isize);
        frame.resize(length, 0xA5);
        frame
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut testbed = testbed();
    let mut simulated = MemFrame::new(bytes);
    let foreseen = simulate(&mut testbed.tables, &mut simulated);
    let (outcome, after) = testbed.run(bytes);
    prop_assert_eq!(foreseen, outcome);
    prop_assert_eq!(simulated.bytes(), &after[..]);
    prop_assert_eq!(testbed.tables.counters().reasons.iter().sum::<u64>(), 1);
    match outcome.verdict {
        Verdict::Pass | Verdict::Drop => prop_assert_eq!(&after[..], bytes),
        Verdict::Tx | Verdict::Redirect if outcome.reason == Reason::EchoReply => {
            prop_assert_eq!(after.len(), bytes.len());
        }
        Verdict::Tx | Verdict::Redirect => {
            prop_assert_ne!(outcome.real, 0);
            let l2 = testbed.tables.reals[outcome.real as usize].mode() == L2.number;
            if l2 {
                prop_assert_eq!(&after[12..], &bytes[12..]);
            } else {
                assert_outer_well_formed(&after, bytes);
            }
        }
    }
    Ok(())
}

/// The outer header is right whatever is wrong with the inner one's checksum or options, and the inner
/// packet is the one that came in.
fn assert_outer_well_formed(after: &[u8], before: &[u8]) {
    let outer = after.len() - before.len();
    if before[12] == 8 {
        let header = etherparse::Ipv4Header::from_slice(&before[14..]).map(|(header, _)| header);
        if header.is_ok_and(|header| header.header_checksum == header.calc_header_checksum()) {
            assert_well_formed(after, "a valid packet");
        }
    }
    if outer == 20 {
        let (header, rest) = etherparse::Ipv4Header::from_slice(&after[14..]).unwrap();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert!(usize::from(header.total_len) <= rest.len() + 20);
    } else {
        assert_eq!(outer, 40);
        let (header, rest) = etherparse::Ipv6Header::from_slice(&after[14..]).unwrap();
        assert!(usize::from(header.payload_length) <= rest.len());
    }
    assert_eq!(after[14 + outer + 12..], before[14 + 12..]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn damaged_frames(bytes in damaged()) {
        check(&bytes)?;
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
        let mut bytes = bytes;
        if bytes.len() > 14 && kind > 0 {
            let kind: [u8; 3] = if kind == 1 { [8, 0, 0x45] } else { [0x86, 0xDD, 0x60] };
            bytes[12..15].copy_from_slice(&kind);
            bytes[..6].copy_from_slice(&BALANCER);
        }
        check(&bytes)?;
    }
}
