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
            log_began(real.into(), by as u64);
        }
        Step::Real(real, by) if level_enabled(Level::Trace) => {
            log_chosen(real.into(), by as u64);
        }
        Step::Dropped(service, reason) if level_enabled(Level::Info) => {
            log_dropped(service.into(), reason as u64);
        }
        _ => {}
    }
}

// Text is chosen by branches: a program has no table of addresses that a name could be taken from. The functions are
// global ones, because the kernel's verifier follows the writing of a line for long, and these only once. They return 0.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_began(real: u64, by: u64) -> u64 {
    if by == ChosenBy::Previous as u64 {
        debug!((), "real {}, chosen by previous", real);
    } else {
        debug!((), "real {}, chosen by new_flow", real);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_chosen(real: u64, by: u64) -> u64 {
    if by == ChosenBy::Flow as u64 {
        trace!((), "real {}, chosen by flow", real);
    } else if by == ChosenBy::ServerId as u64 {
        trace!((), "real {}, chosen by server_id", real);
    } else if by == ChosenBy::SourceRule as u64 {
        trace!((), "real {}, chosen by source_rule", real);
    } else {
        trace!((), "real {}, chosen by ring", real);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_dropped(service: u64, reason: u64) -> u64 {
    const fn number(reason: Reason) -> u64 {
        reason as u64
    }
    macro_rules! line_of {
        ($($reason:ident $line:literal,)*) => {
            $(if reason == const { number(Reason::$reason) } {
                info!((), $line, service);
                return 0;
            })*
        };
    }
    line_of! {
        NoReal "service {}: dropped, no_real",
        NoNextHop "service {}: dropped, no_next_hop",
        TtlExpired "service {}: dropped, ttl_expired",
        NoHeadroom "service {}: dropped, no_headroom",
        BadTables "service {}: dropped, bad_tables",
        TooLarge "service {}: dropped, too_large",
        Martian "service {}: dropped, martian",
        BadChecksum "service {}: dropped, bad_checksum",
        TooLargeAnswered "service {}: answered, too_large_answered",
        NatNoPort "service {}: dropped, nat_no_port",
        NatTableFull "service {}: dropped, nat_table_full",
        NatNoSource "service {}: dropped, nat_no_source",
        NatUntranslatable "service {}: dropped, nat_untranslatable",
        ResetDownReal "service {}: answered, reset_down_real",
        ResetNoReal "service {}: answered, reset_no_real",
        FlowLimited "service {}: dropped, flow_limited",
        SourceDenied "service {}: dropped, source_denied",
        FlowLimitedReset "service {}: answered, flow_limited_reset",
    }
    info!((), "service {}: dropped, reason {}", service, reason);
    0
}
