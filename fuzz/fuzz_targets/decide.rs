//! The forwarding decision against the independent model: a sequence of frames on the same tables.
//!
//! Input: a byte that chooses the testbed, then frames, each with its length in front (2 bytes, big endian).

#![no_main]

use std::{cell::RefCell, collections::HashMap};

use lb_common::{
    memory::{self, HEADROOM, MemFrame},
    reason::Reason,
};
use lb_tests::model::{
    Model,
    random_testbed::random_testbed,
    tables,
    testbed::Testbed,
    validate::{self, Checksums},
};
use libfuzzer_sys::fuzz_target;

/// Longest frame; an interface takes no longer ones.
const LONGEST: usize = 2_048;
/// Buckets of the flow table: so few that they overflow.
const BUCKETS: u32 = 4;

const RIGHT: Checksums = Checksums {
    headers: true,
    transport: true,
};

thread_local! {
    /// Making a testbed takes far longer than a frame does.
    static TESTBEDS: RefCell<HashMap<u8, Testbed>> = RefCell::default();
}

fn testbed(seed: u8) -> Testbed {
    TESTBEDS.with_borrow_mut(|testbeds| {
        testbeds
            .entry(seed)
            .or_insert_with(|| random_testbed(u64::from(seed)).0)
            .clone()
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((&seed, mut rest)) = input.split_first() else {
        return;
    };
    let testbed = testbed(seed % 16);
    let mut home = tables::memory(&testbed, BUCKETS);
    let mut model = Model::new(testbed, BUCKETS);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length))
            .min(LONGEST)
            .min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;

        // The model does not limit how many errors are sent.
        home.state = tables::state(&model.testbed);
        let mut left = MemFrame::new(frame);
        let outcome = memory::run(&mut home, &mut left);
        let expected = model.decide(frame, HEADROOM);
        assert_eq!(
            (
                outcome.reason,
                outcome.interface,
                outcome.service,
                outcome.real,
                outcome.chosen_by
            ),
            (
                expected.reason,
                expected.interface,
                expected.service,
                expected.real,
                expected.chosen_by
            ),
        );
        assert_eq!(left.bytes(), expected.frame);
        if left.bytes() != frame {
            let came = validate::frame(frame).expect("a frame that is forwarded was well-formed");
            let went = validate::frame(left.bytes()).expect("a forwarded frame is well-formed");
            let own = matches!(
                outcome.reason,
                Reason::ResetDownReal | Reason::ResetNoReal | Reason::TooLargeAnswered
            );
            assert_eq!(
                went,
                if own { RIGHT } else { came },
                "checksums stay as right as they were, and those of an answer are right"
            );
        }
    }
});
