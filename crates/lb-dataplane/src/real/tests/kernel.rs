//! The same frames through the program in the kernel and through the decision in memory.

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::{
    decap::{Reason, Vips, decapsulate},
    memory::MemFrame,
    reason::Verdict,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{VIP4, VIP6, address, both, encapsulated, run, udp};
use crate::{options::XdpMode, real::program::Programs};

/// Random frames that are compared.
const FRAMES: u32 = 10_000;
/// The kernel's test runs take no less.
const ETHERNET: usize = 14;

struct Both;

impl Vips for Both {
    fn has4(&self, given: &[u8; 4]) -> bool {
        address(VIP4) == std::net::IpAddr::from(*given)
    }

    fn has6(&self, given: &[u8; 16]) -> bool {
        address(VIP6) == std::net::IpAddr::from(*given)
    }
}

/// Frames as a balancer sends them, with some bytes of their headers changed, cut or padded; and garbage.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let valid = (
        any::<bool>(),
        0..2usize,
        proptest::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(outer_v6, vip, payload)| {
            let vip = both()[vip];
            encapsulated(outer_v6, vip, &udp(vip, 53, &payload))
        });
    let changes = proptest::collection::vec((12..100usize, any::<u8>()), 0..4);
    // Congestion bits of all four headers and options of the outer ones are drawn on purpose: chance alone would
    // leave some reason unmet in one run of fifty.
    let marks = (0..4u8, 0..4u8, 0..100u8);
    let near = (valid, changes, marks, 0..120usize, 0..4usize).prop_map(
        |(mut frame, changes, (outer, inner, options), cut, padding)| {
            let outer_v4 = frame[12] == 8;
            let (shift, at) = if outer_v4 { (0, 34) } else { (4, 54) };
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

#[test]
fn kernel_and_memory_do_the_same_with_any_frame() {
    run(async |_| {
        let mut programs = Programs::load(super::INTERFACE, &both()).unwrap();
        let index = nix::net::if_::if_nametoindex(super::INTERFACE).unwrap();
        programs.attach_decap(index, XdpMode::Native).unwrap();
        let before = programs.counters().unwrap();
        let seen = std::cell::RefCell::new(vec![0u64; Reason::ALL.len()]);
        let mut runner = TestRunner::new(Config {
            cases: FRAMES,
            failure_persistence: None,
            ..Config::default()
        });
        let program: &Xdp = programs.xdp();
        runner
            .run(&any_frame(), |frame| {
                let mut memory = MemFrame::new(&frame);
                let reason = decapsulate(&mut memory, &Both);
                seen.borrow_mut()[reason as usize] += 1;
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
        // The kernel counted what memory decided. Frames of the interface itself (its own neighbour
        // discovery) may have come in meanwhile; none of them is a tunnel's.
        let after = programs.counters().unwrap();
        for (reason, frames) in seen.borrow().iter().enumerate() {
            let reason = Reason::ALL[reason];
            let counted = after.of(reason) - before.of(reason);
            let own = matches!(reason, Reason::NotIp | Reason::NotTunnel | Reason::Options);
            assert!(
                counted == *frames || own && counted > *frames,
                "{reason:?}: {counted} for {frames}"
            );
            assert!(
                *frames > 0 || reason == Reason::NotMoved,
                "{reason:?} was never met"
            );
        }
    });
}
