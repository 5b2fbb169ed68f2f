//! The balancer's log. Each line stands behind aya-log's level, a constant of the loaded program: the
//! verifier removes those that are off, calls and functions included.

use aya_log_ebpf::{
    debug, info,
    macro_support::{Level, level_enabled},
    trace,
};
use lb_common::{
    reason::{ChosenBy, Reason},
    store::Step,
};

/// Logs a step of the decision: drops and resets as information; choices for flows that the flow table did not
/// know where it has a say, which are few, for debugging; those of all other packets as traces.
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
// functions are not inlined, so that the decision is not all log.

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
        Reason::ResetDownReal => info!((), "service {}: answered, reset_down_real", service),
        Reason::ResetNoReal => info!((), "service {}: answered, reset_no_real", service),
        _ => info!((), "service {}: dropped, reason {}", service, reason as u32),
    }
}
