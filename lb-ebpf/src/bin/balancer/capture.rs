//! Captures: the packets of a filter, as they came and as they leave, are sent to the agent. Only a program that the
//! agent loads for the time of a capture does any of this.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_md},
    cty::c_void,
    helpers::{bpf_ktime_get_ns, bpf_perf_event_output},
    macros::map,
    maps::{Array, PerCpuArray, PerfEventArray},
    programs::XdpContext,
};
use lb_common::{
    capture::{ACCOUNTS, Account, Captured, Filter, HEAD, REAL_WORDS},
    headers::ethernet,
    lookup::Step,
    reason::Verdict,
    shared::SharedU64,
};

/// The packet that this CPU works on.
#[map]
static CAPTURED: PerCpuArray<Captured> = PerCpuArray::with_max_entries(1, 0);
#[map]
static CAPTURE_FILTER: Array<Filter> = Array::with_max_entries(1, 0);
#[map]
static CAPTURE_REALS: Array<u64> = Array::with_max_entries(REAL_WORDS, 0);
#[map]
static CAPTURE_ACCOUNTS: Array<SharedU64> = Array::with_max_entries(ACCOUNTS, BPF_F_MMAPABLE);
#[map]
static CAPTURE_EVENTS: PerfEventArray<Captured> = PerfEventArray::new(0);

/// The bits of an event's flags that name the current CPU.
const CURRENT_CPU: u64 = 0xFFFF_FFFF;
/// The most bytes of a frame that an event takes; the kernel has 20 bits for their number.
const MAX_FRAME: u64 = 16_000;

/// Bytes that are copied at once.
const WORD: usize = 8;

/// Keeps the first bytes of the frame.
///
/// A function of its own: what the verifier learns here of the frame's length it forgets when it returns, so it follows
/// the decision once and not for each length.
#[inline(never)]
pub fn keep(context: *mut xdp_md) {
    let context = XdpContext::new(context);
    let Some(captured) = CAPTURED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: only this CPU writes to its entry, and a program is not interrupted by itself.
    let captured = unsafe { &mut *captured };
    let (start, end) = (context.data(), context.data_end());
    captured.length = (end - start) as u32;
    // No frame is shorter. The verifier learns nothing from the comparison of the frame's very start with its end, to
    // which the compiler shortens that of a single byte, so it is to know that there are some.
    if start + ethernet::LENGTH > end {
        return;
    }
    let mut at = 0;
    while at + WORD <= HEAD && start + at + WORD <= end {
        // SAFETY: the bytes lie within the frame and within the head, as was just compared.
        unsafe {
            let word = ((start + at) as *const u64).read_unaligned();
            let head = captured.head.as_mut_ptr().add(at);
            head.cast::<u64>().write_unaligned(word);
        }
        at += WORD;
    }
    while at < HEAD && start + at + 1 <= end {
        // SAFETY: as above.
        unsafe { *captured.head.as_mut_ptr().add(at) = *((start + at) as *const u8) };
        at += 1;
    }
}

/// Notes a step of the decision.
#[inline(always)]
pub fn note(step: Step) {
    if let Some(captured) = CAPTURED.get_ptr_mut(0) {
        // SAFETY: see `keep`.
        unsafe { (*captured).trace.note(step) }
    }
}

/// Sends the packet, if it is wanted and there is credit.
#[inline(never)]
pub fn send(context: *mut xdp_md, verdict: Verdict) {
    let context = XdpContext::new(context);
    let (Some(captured), Some(filter)) = (CAPTURED.get_ptr_mut(0), CAPTURE_FILTER.get(0)) else {
        return;
    };
    // SAFETY: see `keep`.
    let captured = unsafe { &mut *captured };
    if !filter.wants(&captured.trace) {
        return;
    }
    if filter.by_real != 0 {
        let real = captured.trace.real;
        let Some(set) = CAPTURE_REALS.get(real / 64) else {
            return;
        };
        if *set >> (real % 64) & 1 == 0 {
            return;
        }
    }
    let (Some(credit), Some(over_budget)) = (
        CAPTURE_ACCOUNTS.get(Account::Credit as u32),
        CAPTURE_ACCOUNTS.get(Account::OverBudget as u32),
    ) else {
        return;
    };
    // CPUs may take a little more than there is: they look first.
    if (credit.load() as i64) <= 0 {
        over_budget.increment();
        return;
    }
    credit.decrement();
    // SAFETY: a helper without conditions.
    captured.time = unsafe { bpf_ktime_get_ns() };
    captured.verdict = verdict as u32;
    let length = (context.data_end() - context.data()) as u64;
    captured.changed_length = length as u32;
    let bytes = if length > MAX_FRAME {
        MAX_FRAME
    } else {
        length
    };
    // SAFETY: the context is this program's own, a map's name is its definition, and the record has this length.
    unsafe {
        bpf_perf_event_output(
            context.ctx.cast(),
            (&raw const CAPTURE_EVENTS).cast_mut().cast::<c_void>(),
            bytes << 32 | CURRENT_CPU,
            (&raw mut *captured).cast(),
            size_of::<Captured>() as u64,
        );
    }
}
