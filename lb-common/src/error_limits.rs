//! How often ICMP errors are sent (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
//!
//! Sources share buckets by a hash with this host's secret. So one client that sends too large packets at a high
//! rate delays the answers to one in [`ERROR_BUCKETS`] others, and not to all.

use crate::{limits::ERROR_BUCKETS, shared::SharedU64};

/// When each bucket's last error was sent.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct ErrorLimits([SharedU64; ERROR_BUCKETS as usize]);

impl ErrorLimits {
    /// No error was sent yet.
    #[must_use]
    pub const fn new() -> ErrorLimits {
        ErrorLimits([const { SharedU64::new(0) }; ERROR_BUCKETS as usize])
    }

    /// Whether an error may be sent to a source with this hash at this time, in ticks: then it counts as sent.
    /// CPUs that ask at the same moment may each send one.
    #[inline(always)]
    pub fn admit(&self, hash: u64, now: u32) -> bool {
        // The high bits of a product are the well mixed ones.
        let bucket = (hash >> 58) as usize & (ERROR_BUCKETS as usize - 1);
        // One more than the time, because 0 is never.
        let now = now as u64 + 1;
        let sent = &self.0[bucket];
        if sent.load() == now {
            return false;
        }
        sent.store(now);
        true
    }
}

impl Default for ErrorLimits {
    fn default() -> ErrorLimits {
        ErrorLimits::new()
    }
}

const _: () = assert!(ERROR_BUCKETS <= 64, "a bucket is chosen by six bits");
