//! Compares the forwarding decision with the independent model, for a sequence of frames on the same tables.
//!
//! The input is a byte that selects the testbed, then frames, each after its length (2 bytes, big endian).
//!
//! `cargo +nightly fuzz run decide` runs it, with `cargo install cargo-fuzz`.

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

/// Length of the longest frame.
const LONGEST: usize = 2_048;
/// Buckets of the flow table: few enough that they overflow.
const BUCKETS: u32 = 4;

/// All checksums are correct.
const CORRECT: Checksums = Checksums {
    headers: true,
    transport: true,
};

thread_local! {
    /// Testbeds by seed, because creating one takes far longer than deciding on a frame.
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
    let mut memory_tables = tables::memory(&testbed, BUCKETS);
    let mut model = Model::new(testbed, BUCKETS);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length))
            .min(LONGEST)
            .min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;

        // The model does not limit how many errors are sent.
        memory_tables.state = tables::state(&model.testbed);
        let mut left = MemFrame::new(frame);
        let outcome = memory::run(&mut memory_tables, &mut left);
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
            let received = validate::frame(frame).expect("a frame that is forwarded was well-formed");
            let sent = validate::frame(left.bytes()).expect("a forwarded frame is well-formed");
            let own = matches!(
                outcome.reason,
                Reason::ResetDownReal
                    | Reason::ResetNoReal
                    | Reason::TooLargeAnswered
                    | Reason::TtlExpiredAnswered
                    | Reason::UnreachableNoReal
            );
            assert_eq!(
                sent,
                if own { CORRECT } else { received },
                "forwarding keeps checksums correct or wrong, and those of an answer are correct"
            );
        }
    }
});
