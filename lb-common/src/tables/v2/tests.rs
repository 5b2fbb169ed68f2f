//! Records of reals there and back.

use super::*;
use crate::tables::real::{DELETED, DOWN, RESET, SHED, outer_checksum};

const SOURCE4: [u8; 4] = [198, 18, 0, 0];
const REAL4: [u8; 4] = [10, 1, 0, 2];
const REAL6: [u8; 16] = [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SOURCE6: [u8; 16] = [0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn sixteen([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A record as agents of version 2 wrote it.
fn old(kind: u32, v6: bool) -> Real {
    let mut record = Real {
        flags: kind,
        next_hop: 3,
        address: REAL6,
        source: SOURCE6,
        source_mask: [0xFF; 4],
        checksum: 0,
        service: 7,
        lost: 9,
        pad: [0; 2],
    };
    if !v6 {
        record.address = sixteen(REAL4);
        record.source = sixteen(SOURCE4);
        record.source_mask = [0, 0, 0xFF, 0xFF];
        record.checksum = outer_checksum(SOURCE4, REAL4);
    }
    record
}

#[test]
fn each_kind_becomes_a_mode_and_a_family_and_comes_back() {
    for (kind, v6, mode) in [
        (KIND_L2, false, L2),
        (KIND_L2, true, L2),
        (KIND_IP4, false, IPIP),
        (KIND_IP6, true, IPIP),
    ] {
        for states in [0, DOWN, RESET, SHED, DOWN | DELETED, RESET | SHED] {
            let mut record = old(kind, v6);
            record.flags |= states;
            let new = upgrade(&record).unwrap();
            assert_eq!(new.mode(), mode.number);
            assert_eq!(new.flags & ADDRESS_V6 != 0, v6);
            assert_eq!(new.flags & STATES, states);
            assert_eq!(
                (new.next_hop, new.service, new.lost, new.port),
                (3, 7, 9, [0; 2])
            );
            assert_eq!(new.address, record.address);
            assert_eq!(new.source, record.source);
            assert_eq!(new.source_mask, record.source_mask);
            assert_eq!(new.checksum, record.checksum);
            assert_eq!(downgrade(&new), Ok(record));
        }
    }
}

#[test]
fn the_program_of_version_2_forwards_like_that_of_version_3() {
    for (kind, v6) in [
        (KIND_L2, false),
        (KIND_L2, true),
        (KIND_IP4, false),
        (KIND_IP6, true),
    ] {
        let record = old(kind, v6);
        let new = upgrade(&record).unwrap();
        assert_eq!(mode(record.flags), new.mode());
        if kind != KIND_L2 {
            assert_eq!(has_outer_ipv6(record.flags), new.has_ipv6_address());
        }
    }
    assert_eq!(mode(0), 0);
}

#[test]
fn an_empty_record_stays_empty() {
    assert_eq!(upgrade(&Real::default()), Ok(real::Real::default()));
    assert_eq!(downgrade(&real::Real::default()), Ok(Real::default()));
}

#[test]
fn what_version_2_cannot_say_is_refused() {
    let new = upgrade(&old(KIND_IP4, false)).unwrap();
    let with_port = real::Real {
        port: 8_080_u16.to_be_bytes(),
        ..new
    };
    assert_eq!(downgrade(&with_port), Err(Unconvertible::Port(8_080)));
    let other_mode = real::Real {
        flags: MODE_MASK,
        ..new
    };
    assert_eq!(downgrade(&other_mode), Err(Unconvertible::Mode(MODE_MASK)));
    let other_flag = real::Real {
        flags: new.flags | 1 << 31,
        ..new
    };
    assert_eq!(downgrade(&other_flag), Err(Unconvertible::Flags(1 << 31)));
    let without_mode = real::Real { flags: DOWN, ..new };
    assert_eq!(downgrade(&without_mode), Err(Unconvertible::Mode(0)));
}

#[test]
fn damaged_records_of_version_2_are_refused() {
    for kind in [4, KIND_MASK] {
        assert_eq!(upgrade(&old(kind, false)), Err(Unconvertible::Mode(kind)));
    }
    assert_eq!(
        upgrade(&old(DOWN, false)),
        Err(Unconvertible::Mode(0)),
        "a state without a kind"
    );
    for flag in [0x10, 0x80, ADDRESS_V6] {
        let record = old(KIND_IP4 | flag, false);
        assert_eq!(upgrade(&record), Err(Unconvertible::Flags(flag)));
    }
}
