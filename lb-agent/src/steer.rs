//! Intent and observations → effective weights. Pure.
//!
//! For now the operator's word is all there is; load and health will come in as further arguments.

use crate::intent::RealSpec;

/// The weight a real gets in the ring: 0 takes no new flows and keeps the old ones.
#[must_use]
pub const fn effective_weight(real: &RealSpec) -> u32 {
    if real.drained { 0 } else { real.weight }
}
