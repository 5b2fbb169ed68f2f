//! Runs the cases of a table on a data plane, and describes those that end otherwise.

use std::fmt::Write as _;

use lb_common::reason::Verdict;

use crate::{
    decode::decode,
    encode::encode,
    notation::{Digits, Layer, Value},
    planes::{Outcome, Plane},
    table::{Expected, Step, Table},
};

/// Runs all cases, in their order. Returns the frames that leave, in the order of the steps.
///
/// # Panics
/// With all cases that end otherwise.
pub fn run(table: &mut Table, plane: &mut dyn Plane) -> Vec<Vec<u8>> {
    let mut left = Vec::new();
    for vip in &table.vips {
        plane.dataplane().set_service(&vip.spec()).unwrap();
    }
    let mut failures = String::new();
    let mut failed = 0;
    for case in &table.cases {
        let mut wrong = String::new();
        for step in &case.steps {
            let (line, result) = match step {
                Step::Frame {
                    line,
                    frame,
                    expected,
                } => {
                    let bytes = encode(frame, None);
                    let result = bytes.and_then(|bytes| {
                        let outcome = plane.forward(&bytes);
                        let result = compare(&bytes, expected, &outcome);
                        left.push(outcome.frame);
                        result
                    });
                    (line, result)
                }
                Step::Down { line, real, policy } => {
                    let mut changed = false;
                    let vips = table.vips.iter_mut();
                    for vip in vips.filter(|vip| vip.spec.reals.contains(real)) {
                        changed = true;
                        vip.spec.down.insert(*real, *policy);
                        plane.dataplane().set_service(&vip.spec()).unwrap();
                    }
                    let unknown = || format!("    no VIP has the real {real}\n");
                    (line, changed.then_some(()).ok_or_else(unknown))
                }
            };
            if let Err(error) = result {
                let _ = write!(wrong, "  {}:{line}: {}\n{error}", table.file, case.name);
                if !wrong.ends_with('\n') {
                    wrong.push('\n');
                }
            }
        }
        failed += u32::from(!wrong.is_empty());
        failures += &wrong;
    }
    let cases = table.cases.len();
    assert!(
        failures.is_empty(),
        "{failed} of {cases} cases end otherwise\n{failures}"
    );
    left
}

/// Compares what became of a frame with what should have.
pub fn compare(sent: &[u8], expected: &Expected, outcome: &Outcome) -> Result<(), String> {
    let mut wrong = String::new();
    if (outcome.verdict, outcome.reason) != (expected.verdict, expected.reason) {
        let _ = writeln!(
            wrong,
            "    expected {:?} {}\n    got      {:?} {}",
            expected.verdict,
            expected.reason.name(),
            outcome.verdict,
            outcome.reason.name()
        );
    }
    if outcome.verdict == Verdict::Drop {
        // Nobody gets it.
        return if wrong.is_empty() { Ok(()) } else { Err(wrong) };
    }
    let out = match &expected.out {
        Some(packet) => encode(packet, Some(&outcome.frame)),
        None => Ok(sent.to_vec()),
    };
    match out {
        Ok(frame) if frame == outcome.frame => {}
        Ok(frame) => {
            let expected = expected
                .out
                .as_ref()
                .map_or_else(|| decode(&frame).to_string(), ToString::to_string);
            let _ = writeln!(wrong, "    expected {expected}");
            let _ = writeln!(wrong, "    got      {}", decode(&outcome.frame));
            let _ = writeln!(wrong, "    expected {}", Digits(&frame));
            let _ = writeln!(wrong, "    got      {}", Digits(&outcome.frame));
        }
        Err(error) => {
            let _ = writeln!(wrong, "    {error}");
            let _ = writeln!(wrong, "    got      {}", decode(&outcome.frame));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Compares the frames of two data planes. What the table leaves open, such as a flow's port, both choose alike; only
/// identifications follow from the time.
///
/// # Panics
/// If a frame differs.
pub fn agree(table: &Table, one: &[Vec<u8>], other: &[Vec<u8>]) {
    let steps = table.cases.iter().flat_map(|case| &case.steps);
    let frames = steps.filter_map(|step| match step {
        Step::Frame { line, expected, .. } => Some((line, expected)),
        Step::Down { .. } => None,
    });
    for ((line, expected), (one, other)) in frames.zip(one.iter().zip(other)) {
        let layers = expected.out.iter().flat_map(|packet| &packet.0);
        let varies = |layer: &Layer| layer.field("id") == Some(&Value::Any);
        if expected.verdict != Verdict::Drop && !layers.into_iter().any(varies) {
            let (one, other) = (decode(one).to_string(), decode(other).to_string());
            assert_eq!(one, other, "{}:{line}", table.file);
        }
    }
}
