//! Compares kernel, memory and model.

use std::fmt::Write as _;

use lb_common::{
    limits::{STAMP_TICKS, TICK_SHIFT, UDP_CONFIRM_TICKS},
    memory::{self, MemFrame, MemTables},
    reason::{ChosenBy, Reason, Verdict},
    tables::{
        flow::{self, Bucket, CLOSING, Flow, HALF_OPEN, OPENING, PROVISIONAL},
        real::Budget,
        signs::Signs,
    },
};
use lb_tests::model::{
    Expected, Model,
    flows::{Entry, FlowTable},
    tables,
    testbed::Testbed,
    validate::{self, Checksums},
};

use crate::kernel::{Kernel, Run};

/// Number of disagreements that are printed. The others are counted.
const PRINTED: usize = 12;

/// The three implementations, and the disagreements so far.
pub struct Arena {
    /// The program in the kernel.
    pub kernel: Kernel,
    /// The decision on tables in memory.
    pub memory: MemTables,
    /// The independent model.
    pub model: Model,
    frames: u64,
    failures: Vec<String>,
}

/// Returns the time of the clock that the program in the kernel reads.
pub fn now() -> u32 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is a local variable that outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    assert_eq!(result, 0, "reading the coarse monotonic clock");
    ((time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64) >> TICK_SHIFT) as u32
}

impl Arena {
    /// Creates all three with the tables of this testbed and this many buckets for flows.
    pub fn new(testbed: Testbed, buckets: u32) -> Arena {
        Arena {
            kernel: Kernel::new(&testbed, buckets),
            memory: tables::memory(&testbed, buckets),
            model: Model::new(testbed, buckets),
            frames: 0,
            failures: Vec::new(),
        }
    }

    /// Writes the model's testbed into the tables of the others.
    pub fn write(&mut self) {
        self.kernel.write(&self.model.testbed);
        tables::write(&mut self.memory, &self.model.testbed);
    }

    /// Sends a frame through all three. Returns the model's outcome.
    pub fn frame(&mut self, frame: &[u8]) -> Expected {
        // A clock that ticks between them must not make one answer and another one not.
        self.kernel.set_state(&self.model.testbed);
        self.memory.state = tables::state(&self.model.testbed);
        self.memory.now = now();
        self.model.now = self.memory.now;
        self.frames += 1;
        let (kernel_simulated, trace) = self.kernel.simulate(frame);
        let mut copy = MemFrame::new(frame);
        let memory_simulated = memory::simulate(&mut self.memory, &mut copy);
        let kernel = self.kernel.forward(frame);
        let mut in_memory = MemFrame::new(frame);
        let memory = memory::run(&mut self.memory, &mut in_memory);
        let model = self.model.decide(frame, memory::HEADROOM);

        let mut wrong = String::new();
        if kernel != kernel_simulated {
            let _ = writeln!(wrong, "  kernel: forwarding and simulating differ");
        }
        if memory != memory_simulated || copy.bytes() != in_memory.bytes() {
            let _ = writeln!(wrong, "  memory: forwarding and simulating differ");
        }
        let expected = Run {
            verdict: model.verdict() as u32,
            frame: model.frame.clone(),
        };
        if kernel != expected {
            let _ = writeln!(wrong, "  kernel: {} {}", kernel.verdict, hex(&kernel.frame));
        }
        let traced = (trace.reason, trace.chosen_by, trace.service, trace.real);
        if traced
            != (
                model.reason as u32,
                model.chosen_by as u32,
                model.service,
                u32::from(model.real),
            )
        {
            let reason = Reason::ALL.get(trace.reason as usize);
            let by = ChosenBy::from_number(trace.chosen_by);
            let _ = writeln!(
                wrong,
                "  kernel: {reason:?}, {by:?}, service {}, real {}",
                trace.service, trace.real
            );
        }
        let answer = Expected {
            reason: memory.reason,
            interface: memory.interface,
            service: memory.service,
            real: memory.real,
            chosen_by: memory.chosen_by,
            frame: in_memory.bytes().to_vec(),
        };
        if answer != model {
            let _ = writeln!(wrong, "  memory: {}", text(&answer));
        }
        if let Err(error) = sound(frame, &kernel, is_own(model.reason)) {
            let _ = writeln!(wrong, "  kernel sends what it should not: {error}");
        }
        if !wrong.is_empty() {
            self.fail(format!(
                "frame {}: {}\n{wrong}  model:  {}",
                self.frames,
                hex(frame),
                text(&model)
            ));
        }
        model
    }

    fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    /// Compares flow tables and counters.
    pub fn compare(&mut self) {
        let (kernel, memory) = (self.kernel.buckets(), tables::buckets(&self.memory));
        for (bucket, (kernel, memory)) in kernel.iter().zip(&memory).enumerate() {
            let model = &self.model.flows.buckets[bucket];
            let mut entries: [Vec<Entry>; 3] = [
                kernel.flows.iter().filter_map(entry).collect(),
                memory.flows.iter().filter_map(entry).collect(),
                model.iter().flatten().copied().collect(),
            ];
            entries
                .iter_mut()
                .for_each(|entries| entries.sort_unstable());
            let [kernel, memory, model] = entries;
            if !same(&kernel, &model) || !same(&memory, &model) {
                self.fail(format!(
                    "bucket {bucket}: kernel {kernel:x?}, memory {memory:x?}, model {model:x?}"
                ));
            }
        }
        self.compare_counters();
    }

    fn compare_counters(&mut self) {
        let memory = self.memory.counters();
        let reasons = self.kernel.reasons();
        if reasons.iter().sum::<u64>() != self.frames {
            self.fail(format!(
                "{} frames, but the reasons are {reasons:?}",
                self.frames
            ));
        }
        if reasons != self.model.reasons || reasons != memory.reasons {
            self.fail(format!(
                "reasons: kernel {reasons:?}, memory {:?}, model {:?}",
                memory.reasons, self.model.reasons
            ));
        }
        let reals = self.kernel.reals(memory.reals.len());
        for (index, kernel) in reals.iter().enumerate() {
            let (memory, model) = (memory.reals[index], self.model.reals[index]);
            if *kernel != memory || *kernel != model {
                self.fail(format!(
                    "real {index}: kernel {kernel:?}, memory {memory:?}, model {model:?}"
                ));
            }
        }
        let budgets = self.kernel.budgets();
        let wanted: Vec<Budget> = self.model.testbed.budget_records().collect();
        for (index, model) in wanted.into_iter().enumerate() {
            let memory = self.memory.budgets[index].load() as i64;
            if budgets[index] != model || memory != model.flows {
                self.fail(format!(
                    "budget of real {index}: kernel {:?}, memory {memory}, model {model:?}",
                    budgets[index]
                ));
            }
        }
        let services = self.kernel.services(memory.services.len());
        for (index, kernel) in services.iter().enumerate() {
            let (memory, model) = (memory.services[index], self.model.services[index]);
            if *kernel != memory || *kernel != model {
                self.fail(format!(
                    "service {index}: kernel {kernel:?}, memory {memory:?}, model {model:?}"
                ));
            }
        }
        let ids = self.kernel.server_ids(memory.server_ids.len());
        if ids != memory.server_ids || ids != self.model.server_ids {
            self.fail(format!(
                "server ids: kernel {ids:?}, memory {:?}, model {:?}",
                memory.server_ids, self.model.server_ids
            ));
        }
        let flows = self.kernel.flow_counters();
        if flows != memory.flows {
            self.fail(format!(
                "flow table: kernel {flows:?}, memory {:?}",
                memory.flows
            ));
        }
        self.compare_signs();
        let evictions = self.kernel.evictions();
        if evictions != memory.evictions {
            self.fail(format!(
                "evictions: kernel {evictions:?}, memory {:?}",
                memory.evictions
            ));
        }
    }

    /// Compares what was counted over the sample of the flows. Each has its own clock, so lives may be in other buckets.
    fn compare_signs(&mut self) {
        let counts = |signs: &Signs| [signs.opened, signs.repeated, signs.resets, signs.ended()];
        for (index, kernel) in self.kernel.signs().iter().enumerate() {
            let memory = self.memory.signs[index].record();
            if counts(kernel) != counts(&memory) {
                self.fail(format!(
                    "signs of real {index}: kernel {kernel:?}, memory {memory:?}"
                ));
            }
        }
        for (index, kernel) in self.kernel.samples().iter().enumerate() {
            let memory = self.memory.samples[index].owner.load();
            if kernel.owner != memory {
                self.fail(format!(
                    "sample {index}: kernel {:#x}, memory {memory:#x}",
                    kernel.owner
                ));
            }
        }
    }

    /// Makes entries of the flow table older by the number of ticks that `ticks` returns for an entry.
    pub fn age(&mut self, ticks: impl Fn(&Entry) -> Option<u32>) {
        let now = now();
        let aged = |entry: Entry| match ticks(&entry) {
            Some(ticks) => Entry {
                stamp: now.wrapping_sub(ticks),
                ..entry
            },
            None => entry,
        };
        let mut buckets = self.kernel.buckets();
        for flow in buckets.iter_mut().flat_map(|bucket| &mut bucket.flows) {
            *flow = entry(flow).map_or(*flow, |entry| record(&aged(entry)));
        }
        self.kernel.set_buckets(&buckets);
        let mut buckets = tables::buckets(&self.memory);
        for flow in buckets.iter_mut().flat_map(|bucket| &mut bucket.flows) {
            *flow = entry(flow).map_or(*flow, |entry| record(&aged(entry)));
        }
        tables::set_buckets(&mut self.memory, &buckets);
        for entry in self.model.flows.buckets.iter_mut().flatten().flatten() {
            *entry = aged(*entry);
        }
    }

    /// Writes this flow table to all three.
    pub fn set_flows(&mut self, flows: &FlowTable) {
        let buckets: Vec<Bucket> = flows
            .buckets
            .iter()
            .map(|bucket| Bucket {
                flows: bucket.map(|entry| entry.as_ref().map(record).unwrap_or_default()),
            })
            .collect();
        self.kernel.set_buckets(&buckets);
        tables::set_buckets(&mut self.memory, &buckets);
        self.model.flows = flows.clone();
    }

    /// Fails the test if there was a disagreement.
    pub fn finish(self, seed: u64) {
        if self.failures.is_empty() {
            return;
        }
        let shown = self
            .failures
            .iter()
            .take(PRINTED)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        panic!(
            "seed {seed}: {} disagreements in {} frames\n{shown}",
            self.failures.len(),
            self.frames
        );
    }

    /// Reports a broken property.
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }
}

/// Converts an entry of the tables. Returns `None` for an empty one.
fn entry(flow: &Flow) -> Option<Entry> {
    (flow.owner != 0).then(|| Entry {
        tag: flow.owner >> 16,
        real: flow::real_of(flow.owner),
        closing: flow.stamp & CLOSING != 0,
        provisional: flow.stamp & PROVISIONAL != 0,
        opening: flow.stamp & OPENING != 0,
        half_open: flow.stamp & HALF_OPEN != 0,
        ring_bits: flow::ring_bits(flow.stamp),
        stamp: flow.stamp as u32,
    })
}

/// Converts an entry to a record of the tables.
fn record(entry: &Entry) -> Flow {
    Flow {
        owner: flow::owner(entry.tag, entry.real),
        stamp: u64::from(entry.stamp)
            | if entry.closing { CLOSING } else { 0 }
            | if entry.provisional { PROVISIONAL } else { 0 }
            | if entry.opening { OPENING } else { 0 }
            | if entry.half_open { HALF_OPEN } else { 0 }
            | u64::from(entry.ring_bits) << 44,
    }
}

/// Returns whether entries are equal. Their stamps may differ by the time after which an entry is stamped again, and the
/// three clocks may be read before or after a tick. So a packet that comes as late as a datagram must come to confirm its
/// entry may have done so for one clock and not for another.
fn same(left: &[Entry], right: &[Entry]) -> bool {
    let unmarked = |entry: &Entry| Entry {
        stamp: 0,
        provisional: false,
        opening: false,
        ..*entry
    };
    left.len() == right.len()
        && left.iter().zip(right).all(|(left, right)| {
            let apart = (left.stamp.wrapping_sub(right.stamp) as i32).unsigned_abs();
            let marks_may_differ =
                left.stamp != right.stamp && apart <= UDP_CONFIRM_TICKS + 2 && !left.half_open;
            let marks_are_equal =
                (left.provisional, left.opening) == (right.provisional, right.opening);
            unmarked(left) == unmarked(right)
                && (marks_are_equal || marks_may_differ)
                && apart <= STAMP_TICKS + 4
        })
}

/// Returns whether the balancer answers with a packet of its own.
fn is_own(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ResetDownReal
            | Reason::ResetNoReal
            | Reason::TooLargeAnswered
            | Reason::TtlExpiredAnswered
            | Reason::UnreachableNoReal
    )
}

/// Checks that no malformed frame is forwarded, that forwarding keeps checksums correct or wrong, and that the checksums
/// of an answer are correct.
fn sound(before: &[u8], run: &Run, own: bool) -> Result<(), String> {
    if run.verdict == Verdict::Pass as u32 || run.verdict == Verdict::Drop as u32 {
        return if run.frame == before {
            Ok(())
        } else {
            Err("a frame that is not sent was changed".to_owned())
        };
    }
    let received = validate::frame(before)
        .map_err(|error| format!("the received frame is malformed: {error}"))?;
    let left = validate::frame(&run.frame)
        .map_err(|error| format!("what leaves is malformed: {error}"))?;
    let right = Checksums {
        headers: true,
        transport: true,
    };
    if left == if own { right } else { received } {
        Ok(())
    } else {
        Err(format!("checksums: {received:?} before, {left:?} after"))
    }
}

fn text(answer: &Expected) -> String {
    format!(
        "{:?}, {:?}, service {}, real {}, interface {}, {}",
        answer.reason,
        answer.chosen_by,
        answer.service,
        answer.real,
        answer.interface,
        hex(&answer.frame)
    )
}

/// Formats a frame for `lbctl simulate --packet`. Of a long frame, only the headers are formatted.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(160) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > 160 {
        let _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}
