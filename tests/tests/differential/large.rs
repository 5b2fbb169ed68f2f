//! Frames that a test run in the kernel rejects: 64 KiB, no headroom, less than an Ethernet header.

use lb_common::memory::{self, MemFrame};
use lb_common::reason::Reason;
use lb_tests::model::{
    Model, flows::FlowTable, generator::Generator, random_testbed::random_testbed, tables,
};

pub fn memory_and_model_agree_on_frames_of_any_length() {
    let (testbed, targets) = random_testbed(1);
    let mut tables = tables::memory(&testbed, 16);
    let generator = Generator::new(1, targets.clone());
    let mut model = Model::new(testbed, 16);
    let mut seen = vec![false; Reason::ALL.len()];
    for target in targets {
        for flow in 0..40 {
            let plain = generator.flow_frame(target, flow, 0x02);
            let mut frames: Vec<(Vec<u8>, usize)> = (0..14)
                .map(|length| (plain[..length].to_vec(), 256))
                .collect();
            frames.extend([0, 19, 20, 39, 40].map(|headroom| (plain.clone(), headroom)));
            frames.extend(
                [65_475, 65_495, 65_496, 65_515, 65_516, 65_535]
                    .map(|length| (grown(&plain, length), 256)),
            );
            for (frame, headroom) in frames {
                // Every flow is new. Other tests compare the flow tables.
                model.flows = FlowTable::new(16);
                let empty = vec![lb_common::tables::flow::Bucket::default(); 16];
                tables::set_buckets(&mut tables, &empty);
                tables.state = tables::state(&model.testbed);
                let expected = model.decide(&frame, headroom);
                let mut copy = MemFrame::with_headroom(&frame, headroom);
                let outcome = memory::run(&mut tables, &mut copy);
                let what = format!("{} bytes to {target:?}, headroom {headroom}", frame.len());
                assert_eq!(outcome.reason, expected.reason, "{what}");
                assert_eq!(outcome.real, expected.real, "{what}");
                assert!(copy.bytes() == expected.frame, "{what}: bytes differ");
                seen[expected.reason as usize] = true;
            }
        }
    }
    assert!(seen[Reason::TooLarge as usize] && seen[Reason::NoHeadroom as usize]);
}

/// Returns the frame with its IP packet extended to `length` bytes.
fn grown(frame: &[u8], length: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(14 + length, 0x55);
    let udp = if frame[12] == 0x08 {
        frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
        (frame[23] == 17).then_some(34)
    } else {
        frame[18..20].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        (frame[20] == 17).then_some(54)
    };
    if let Some(udp) = udp {
        let length = frame.len() - udp;
        frame[udp + 4..udp + 6].copy_from_slice(&(length as u16).to_be_bytes());
    }
    frame
}
