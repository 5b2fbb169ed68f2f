//! Random frames, held against a model.

use proptest::prelude::*;

use super::*;

/// The expected decision, by another parser: the offset of the inner packet if it is to be taken out.
fn model(frame: &[u8]) -> Option<usize> {
    let packet = etherparse::Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    let (at, protocol, inner) = match packet.ether_type() {
        etherparse::EtherType::IPV4 => {
            let outer = etherparse::Ipv4Slice::from_slice(packet.payload_slice()).ok()?;
            let header = outer.header();
            if header.ihl() != 5 || header.is_fragmenting_payload() {
                return None;
            }
            (34, header.protocol(), outer.payload().payload)
        }
        etherparse::EtherType::IPV6 => {
            let (header, rest) = Ipv6Header::from_slice(packet.payload_slice()).ok()?;
            let length = usize::from(header.payload_length);
            (54, header.next_header, rest.get(..length)?)
        }
        _ => return None,
    };
    let vip = match protocol {
        IpNumber::IPV4 => {
            let header = etherparse::Ipv4HeaderSlice::from_slice(inner).ok()?;
            let length = usize::from(header.total_len());
            header.destination() == VIP4
                && length >= usize::from(header.ihl()) * 4
                && length <= inner.len()
        }
        IpNumber::IPV6 => {
            let (header, rest) = Ipv6Header::from_slice(inner).ok()?;
            header.destination == VIP6 && usize::from(header.payload_length) <= rest.len()
        }
        _ => return None,
    };
    vip.then_some(at)
}

/// Frames near the valid ones: some bytes changed, the end cut.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let shape = (
        0..4usize,
        0..4u8,
        0..4u8,
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    let changes = proptest::collection::vec((0..100usize, any::<u8>()), 0..3);
    (shape, changes, 0..200usize).prop_map(
        |((pair, outer_mark, inner_mark, payload), changes, cut)| {
            let (outer, family, _) = PAIRS[pair];
            let mut frame = encapsulated(
                outer,
                outer_mark,
                family,
                &inner(family, inner_mark, &payload),
            );
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if cut < frame.len() / 4 {
                frame.truncate(frame.len() - cut);
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn what_comes_out_is_what_the_model_says(frame in any_frame()) {
        let (reason, after) = run(&frame);
        let taken = [Reason::Ip4InIp4, Reason::Ip6InIp4, Reason::Ip4InIp6, Reason::Ip6InIp6].contains(&reason);
        match model(&frame) {
            None => {
                prop_assert!(!taken, "{reason:?}");
                prop_assert_eq!(after, frame);
            }
            Some(_) if reason == Reason::Congestion => prop_assert_eq!(after, frame),
            Some(at) => {
                prop_assert!(taken, "{reason:?}");
                prop_assert_eq!(&after[..12], &frame[..12]);
                prop_assert_eq!(after.len() + at, frame.len() + 14);
                // Only the congestion bits and IPv4's checksum may differ.
                let v4 = after[12..14] == [8, 0];
                for (i, (new, old)) in after[14..].iter().zip(&frame[at..]).enumerate() {
                    let mask = match (v4, i) { (true, 1) => 3, (false, 1) => 0x30, (true, 10 | 11) => 0xFF, _ => 0 };
                    prop_assert_eq!(new & !mask, old & !mask, "byte {}", i);
                }
            }
        }
    }

    #[test]
    fn nothing_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
        let (reason, after) = run(&frame);
        prop_assert!(reason.verdict() != crate::reason::Verdict::Drop || after == frame);
    }
}
