//! Measures other XDP programs: `cargo xtask bench packets`.
//!
//! A test run with `repeat` passes each packet on as the last run left it, so a program that encapsulates
//! would see an ever longer one. Therefore this program is the one that is repeated: it removes what was
//! pushed, rewrites the headers for the next flow, and tail-calls the target. It plays segments of
//! targets in turn (a program that does nothing, A, it again, B, ...) within one run and notes how long
//! each took, so what else the machine does meets all of them alike.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the `xdp` macro makes a function without the documentation of ours"
)]
#![allow(unstable_features, reason = "inline assembly for BPF is not stable")]
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_head},
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};
use lb_common::{
    headers::{IP, ipv4, ipv6, tcp},
    tables::bench::{
        FRESH, Job, MAX_SEGMENTS, MAX_SEQUENCE, MAX_TARGETS, SHUFFLED, State, TEMPLATE,
    },
};

/// Bytes of a template that every packet has.
const SHORTEST: usize = 64;

#[map]
static TARGETS: ProgramArray = ProgramArray::with_max_entries(MAX_TARGETS as u32, 0);
#[map]
static JOB: Array<Job> = Array::with_max_entries(1, 0);
#[map]
static STATE: Array<State> = Array::with_max_entries(1, 0);
#[map]
static TIMES: Array<u64> = Array::with_max_entries(MAX_SEGMENTS, 0);
/// Interface that [`generate`] sends out of.
#[map]
static OUTPUT: Array<u32> = Array::with_max_entries(1, 0);

/// Does nothing: what the method itself costs.
#[xdp]
pub fn nothing(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Takes what comes: the far end of a cable on which XDP is to transmit.
#[xdp]
pub fn sink(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Plays a [`Job`].
#[xdp]
pub fn drive(context: XdpContext) -> u32 {
    match play(&context) {
        Some(target) => call(&context, target),
        None => xdp_action::XDP_ABORTED,
    }
}

/// Sends the packets of a [`Job`] out of an interface: for test runs with live frames.
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    let (Some(job), Some(state), Some(output)) = (JOB.get(0), STATE.get_ptr_mut(0), OUTPUT.get(0))
    else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: there is one test run at a time, on one CPU.
    let state = unsafe { &mut *state };
    let number = job.first_flow.wrapping_add(u64::from(state.packet));
    state.packet = state.packet.wrapping_add(1);
    if write_packet(&context, job, state, number).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: a helper without conditions.
    unsafe { bpf_redirect(*output, 0) as u32 }
}

/// Makes the next packet and returns the target to run on it.
#[inline(always)]
fn play(context: &XdpContext) -> Option<u32> {
    let job = JOB.get(0)?;
    // SAFETY: there is one test run at a time, on one CPU.
    let state = unsafe { &mut *STATE.get_ptr_mut(0)? };
    if state.packet >= job.segment {
        // SAFETY: a helper without conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        let segment = state
            .round
            .wrapping_mul(job.rounds_of)
            .wrapping_add(state.position);
        if let Some(time) = TIMES.get_ptr_mut(segment) {
            // SAFETY: as above.
            unsafe { *time = now.wrapping_sub(state.started) };
        }
        state.packet = 0;
        state.position += 1;
        if state.position >= job.rounds_of {
            state.position = 0;
            state.round += 1;
        }
    }
    if state.packet == job.untimed {
        // SAFETY: a helper without conditions.
        state.started = unsafe { bpf_ktime_get_ns() };
    }
    // The targets of one round meet the same flows.
    let number = u64::from(state.round) * u64::from(job.segment) + u64::from(state.packet);
    state.packet += 1;
    write_packet(context, job, state, job.first_flow.wrapping_add(number))?;
    let position = state.position as usize;
    let target = if position < MAX_SEQUENCE {
        job.sequence[position]
    } else {
        0
    };
    state.last = target;
    Some(target)
}

/// Runs a target. The kernel makes a direct jump of a tail call with a constant index; any other becomes an
/// indirect call behind a barrier, which costs more than some targets do. The empty assembly
/// keeps the compiler from making one call of these eight.
#[inline(always)]
fn call(context: &XdpContext, target: u32) -> u32 {
    macro_rules! targets {
        ($($number:literal),*) => {
            match target {
                $($number => {
                    // SAFETY: nothing is held that would have to be dropped.
                    unsafe { TARGETS.tail_call(context, $number) };
                    // SAFETY: no instruction.
                    unsafe { asm!(concat!("/* ", $number, " */")) };
                })*
                _ => {}
            }
        };
    }
    targets!(0, 1, 2, 3, 4, 5, 6, 7);
    if let Some(state) = STATE.get_ptr_mut(0) {
        // SAFETY: as in `play`.
        unsafe { (*state).missed += 1 };
    }
    xdp_action::XDP_ABORTED
}

/// Restores the packet and makes it one of the flow with this number in the job's order.
#[inline(always)]
fn write_packet(context: &XdpContext, job: &Job, state: &mut State, number: u64) -> Option<()> {
    let too_long = context.data_end() as i64 - context.data() as i64 - i64::from(job.length);
    if let Some(grown) = state.grown.get_mut(state.last as usize & (MAX_TARGETS - 1)) {
        *grown += too_long;
    }
    // SAFETY: a helper of XDP on this program's own context; no pointer into the packet is held.
    if unsafe { bpf_xdp_adjust_head(context.as_ptr().cast(), too_long as i32) } != 0 {
        state.not_restored += 1;
        return None;
    }
    let flow = flow(job, number as u32);
    // 31 bits of flow: 15 in the port, 16 in the lower half of the source address.
    let port = (0x8000 | flow as u16 & 0x7FFF).to_be();
    let host = ((flow >> 15) as u16).to_be();

    let start = context.data();
    let end = context.data_end();
    if start + SHORTEST > end {
        return None;
    }
    let packet = start as *mut u8;
    for word in 0..SHORTEST / 8 {
        // SAFETY: the first 64 bytes are the packet's, and the template is longer.
        unsafe {
            packet
                .cast::<u64>()
                .add(word)
                .write_unaligned(job.template[word])
        };
    }
    if job.v6 == 0 {
        // Changes of the identification and of the acknowledgment keep both checksums right.
        const HOST: usize = IP + ipv4::SOURCE + 2;
        const IDENTIFICATION: usize = IP + ipv4::IDENTIFICATION;
        const PORT: usize = IP + ipv4::LENGTH + tcp::PORTS;
        const ACKNOWLEDGMENT: usize = IP + ipv4::LENGTH + tcp::ACKNOWLEDGMENT + 2;
        const _: () = assert!(ACKNOWLEDGMENT + 2 <= SHORTEST);
        let acknowledgment = minus(get(job, ACKNOWLEDGMENT), host);
        // SAFETY: the offsets lie within the first 64 bytes, as asserted for the largest.
        unsafe {
            put(packet, HOST, host);
            put(
                packet,
                IDENTIFICATION,
                minus(get(job, IDENTIFICATION), host),
            );
            put(packet, PORT, port);
            put(packet, ACKNOWLEDGMENT, minus(acknowledgment, port));
        }
    } else {
        const HOST: usize = IP + ipv6::SOURCE + 14;
        const PORT: usize = IP + ipv6::LENGTH + tcp::PORTS;
        const ACKNOWLEDGMENT: usize = IP + ipv6::LENGTH + tcp::ACKNOWLEDGMENT + 2;
        const _: () = assert!(ACKNOWLEDGMENT + 2 <= TEMPLATE);
        if start + TEMPLATE > end {
            return None;
        }
        for word in SHORTEST / 8..TEMPLATE / 8 {
            // SAFETY: the first 80 bytes are the packet's.
            unsafe {
                packet
                    .cast::<u64>()
                    .add(word)
                    .write_unaligned(job.template[word])
            };
        }
        let acknowledgment = minus(get(job, ACKNOWLEDGMENT), host);
        // SAFETY: the offsets lie within the first 80 bytes, as asserted for the largest.
        unsafe {
            put(packet, HOST, host);
            put(packet, PORT, port);
            put(packet, ACKNOWLEDGMENT, minus(acknowledgment, port));
        }
    }
    Some(())
}

/// The flow of a packet.
#[inline(always)]
fn flow(job: &Job, number: u32) -> u32 {
    let mask = job.mask;
    match job.order {
        FRESH => number,
        // Each step is a bijection of the mask's bits, so every flow comes once in a turn.
        SHUFFLED => {
            let mut flow = number.wrapping_mul(0xC2B2_AE35) & mask;
            flow ^= flow >> 5;
            flow = flow.wrapping_mul(0x2745_937F).wrapping_add(0x0165_667B) & mask;
            flow ^= flow >> 9;
            flow.wrapping_mul(0x9E37_79B1) & mask
        }
        _ => number & mask,
    }
}

/// One's complement difference of two 16-bit words.
#[inline(always)]
fn minus(sum: u16, part: u16) -> u16 {
    let difference = u32::from(sum) + u32::from(!part);
    (difference as u16).wrapping_add((difference >> 16) as u16)
}

/// Two bytes of the template.
#[inline(always)]
fn get(job: &Job, at: usize) -> u16 {
    let [first, second] = [job.template[at / 8], job.template[(at + 1) / 8]];
    let byte = |word: u64, at: usize| word.to_ne_bytes()[at % 8];
    u16::from_ne_bytes([byte(first, at), byte(second, at + 1)])
}

/// # Safety
/// `at` + 2 lies within the packet.
#[inline(always)]
unsafe fn put(packet: *mut u8, at: usize, value: u16) {
    // SAFETY: the caller's.
    unsafe { packet.add(at).cast::<u16>().write_unaligned(value) }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
