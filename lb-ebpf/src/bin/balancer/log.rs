//! The balancer's log. Each line depends on aya-log's level, a constant of the loaded program: the verifier
//! removes those that are off, including their calls and functions.

use aya_log_ebpf::{
    debug, info,
    macro_support::{Level, level_enabled},
    trace,
};
use lb_common::{
    lookup::Step,
    reason::{ChosenBy, Reason},
};

/// Logs a step of the decision: drops and resets at level info; choices where the flow table has a say but did not
/// know the flow, which are few, at level debug; all other choices at level trace.
#[inline(always)]
pub fn log(step: Step) {
    match step {
        Step::Real(real, by @ (ChosenBy::NewFlow | ChosenBy::Previous))
            if level_enabled(Level::Debug) =>
        {
            began(real.into(), by);
        }
        Step::Real(real, by) if level_enabled(Level::Trace) => chosen(real.into(), by),
        Step::Dropped(service, reason) if level_enabled(Level::Info) => dropped(service, reason),
        _ => {}
    }
}

// Text is chosen by branches: a program has no table of addresses that a name could be taken from. The
// functions are not inlined, to keep the decision short.

#[inline(never)]
fn began(real: u32, by: ChosenBy) {
    if by == ChosenBy::Previous {
        debug!((), "real {}, chosen by previous", real);
    } else {
        debug!((), "real {}, chosen by new_flow", real);
    }
}

#[inline(never)]
fn chosen(real: u32, by: ChosenBy) {
    if by == ChosenBy::Flow {
        trace!((), "real {}, chosen by flow", real);
    } else {
        trace!((), "real {}, chosen by ring", real);
    }
}

#[inline(never)]
fn dropped(service: u32, reason: Reason) {
    match reason {
        Reason::NoReal => info!((), "service {}: dropped, no_real", service),
        Reason::NoNextHop => info!((), "service {}: dropped, no_next_hop", service),
        Reason::TtlExpired => info!((), "service {}: dropped, ttl_expired", service),
        Reason::NoHeadroom => info!((), "service {}: dropped, no_headroom", service),
        Reason::BadTables => info!((), "service {}: dropped, bad_tables", service),
        Reason::TooLarge => info!((), "service {}: dropped, too_large", service),
        Reason::Martian => info!((), "service {}: dropped, martian", service),
        Reason::BadChecksum => info!((), "service {}: dropped, bad_checksum", service),
        Reason::TooLargeAnswered => info!((), "service {}: answered, too_large_answered", service),
        Reason::ResetDownReal => info!((), "service {}: answered, reset_down_real", service),
        Reason::ResetNoReal => info!((), "service {}: answered, reset_no_real", service),
        _ => info!((), "service {}: dropped, reason {}", service, reason as u32),
    }
}
