//! The same frames through the program in the kernel and through the decision in memory.

use std::{cell::RefCell, net::IpAddr};

use aya::{
    Ebpf,
    maps::{HashMap, PerCpuArray},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use lb_common::{
    decap::{Reason, Vips, decapsulate, names},
    headers::udp::LENGTH as UDP,
    memory::MemFrame,
    reason::Verdict,
};
use lb_dataplane::objects;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::fixture::{VIP4, VIP6, address, both, encapsulated, in_gue, udp};

/// Random frames that are compared.
const FRAMES: u32 = 10_000;
/// The length of an Ethernet header. The kernel's test runs reject shorter frames.
const ETHERNET: usize = 14;

struct Both;

impl Vips for Both {
    fn has4(&self, given: &[u8; 4]) -> bool {
        address(VIP4) == IpAddr::from(*given)
    }

    fn has6(&self, given: &[u8; 16]) -> bool {
        address(VIP6) == IpAddr::from(*given)
    }
}

/// Frames as a balancer sends them, with some bytes of their headers changed, cut or padded; and garbage.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let valid = (
        any::<bool>(),
        any::<bool>(),
        0..2usize,
        proptest::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(outer_v6, gue, vip, payload)| {
            let vip = both()[vip];
            let packet = udp(vip, 53, &payload);
            let frame = if gue {
                in_gue(outer_v6, &packet)
            } else {
                encapsulated(outer_v6, vip, &packet)
            };
            (frame, gue)
        });
    let changes = proptest::collection::vec((12..100usize, any::<u8>()), 0..4);
    // Congestion bits of all four headers and options of the outer ones are drawn on purpose: chance alone would
    // leave some reason unmet in one run of fifty.
    let marks = (0..4u8, 0..4u8, 0..100u8);
    let near = (valid, changes, marks, 0..120usize, 0..4usize).prop_map(
        |((mut frame, gue), changes, (outer, inner, options), cut, padding)| {
            let outer_v4 = frame[12] == 8;
            let (shift, at) = if outer_v4 { (0, 34) } else { (4, 54) };
            let at = if gue { at + UDP } else { at };
            match (options, outer_v4) {
                (0, true) => frame[14] = 0x46,
                (0, false) => frame[20] = 0,
                _ => {}
            }
            frame[15] |= outer << shift;
            let shift = if frame[at] >> 4 == 4 { 0 } else { 4 };
            frame[at + 1] |= inner << shift;
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if cut < frame.len() / 4 {
                frame.truncate(frame.len() - cut);
            }
            frame.extend(vec![0; padding]);
            frame
        },
    );
    let garbage = proptest::collection::vec(any::<u8>(), ETHERNET..200);
    prop_oneof![9 => near, 1 => garbage]
}

/// Adds a VIP to a map of the program.
fn add<const SIZE: usize>(ebpf: &mut Ebpf, map: &str, address: [u8; SIZE]) {
    HashMap::<_, [u8; SIZE], u32>::try_from(ebpf.map_mut(map).unwrap())
        .unwrap()
        .insert(address, 1, 0)
        .unwrap();
}

/// Loads the program, with two VIPs.
fn load() -> Ebpf {
    let mut ebpf = Ebpf::load(objects::DECAP).unwrap();
    for vip in both() {
        match vip {
            IpAddr::V4(vip) => add(&mut ebpf, names::VIPS4, vip.octets()),
            IpAddr::V6(vip) => add(&mut ebpf, names::VIPS6, vip.octets()),
        }
    }
    let program: &mut Xdp = ebpf.program_mut("decap").unwrap().try_into().unwrap();
    program.load().unwrap();
    ebpf
}

/// Returns the number of frames of each reason.
fn counters(ebpf: &Ebpf) -> Vec<u64> {
    let table = PerCpuArray::<_, u64>::try_from(ebpf.map(names::REASONS).unwrap()).unwrap();
    Reason::ALL
        .iter()
        .map(|reason| table.get(&(*reason as u32), 0).unwrap().iter().sum())
        .collect()
}

pub fn kernel_and_memory_do_the_same_with_any_frame() {
    let ebpf = load();
    let program: &Xdp = ebpf.program("decap").unwrap().try_into().unwrap();
    let expected = RefCell::new(vec![0u64; Reason::ALL.len()]);
    let mut runner = TestRunner::new(Config {
        cases: FRAMES,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&any_frame(), |frame| {
            let mut memory = MemFrame::new(&frame);
            let reason = decapsulate(&mut memory, &Both);
            expected.borrow_mut()[reason as usize] += 1;
            let mut out = [0; 512];
            let options = TestRunOptions {
                data_in: Some(&frame),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            };
            let result = program.test_run(options).unwrap();
            let verdict = if reason.verdict() == Verdict::Drop {
                1
            } else {
                2
            };
            prop_assert_eq!(result.return_value, verdict, "{:?}", reason);
            prop_assert_eq!(
                &out[..result.data_size_out as usize],
                memory.bytes(),
                "{:?}",
                reason
            );
            Ok(())
        })
        .unwrap();
    let expected = expected.into_inner();
    assert_eq!(counters(&ebpf), expected);
    for (reason, frames) in Reason::ALL.iter().zip(expected) {
        // Moving the start of a frame forward fails in no test run.
        assert!(
            frames > 0 || *reason == Reason::NotMoved,
            "{reason:?} never occurred"
        );
    }
}
