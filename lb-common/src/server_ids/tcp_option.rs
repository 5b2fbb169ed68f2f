//! Server ids in an option of TCP, as Katran reads them.

use crate::{
    frame::{Fields as _, Frame},
    headers::{
        tcp,
        tcp::option::{END, KIND, NO_OPERATION, OPTION_LENGTH, SERVER_ID, SERVER_ID_LENGTH, VALUE},
    },
    parse::forget,
};

/// Options that are read before the search is given up. One that says that it has no length is read until then.
const MAX_OPTIONS: usize = 15;

/// The server id among the options of the TCP header at `offset`, of which the lowest byte comes first.
#[inline(always)]
pub(super) fn id<F: Frame>(frame: &mut F, offset: usize) -> Option<u64> {
    let header = frame.window::<{ tcp::LENGTH }>(offset)?;
    let size = (header.u8_at::<{ tcp::DATA_OFFSET }>() >> 4) as usize * 4;
    // The kernel's verifier would follow each way to each place among the options.
    let mut at = forget(tcp::LENGTH as u32) as usize;
    for _ in 0..MAX_OPTIONS {
        if at + SERVER_ID_LENGTH > size {
            return None;
        }
        let option = frame.window::<SERVER_ID_LENGTH>(offset + at)?;
        let kind = option.u8_at::<KIND>();
        let length = u32::from(option.u8_at::<OPTION_LENGTH>());
        if kind == END {
            return None;
        }
        if kind == SERVER_ID {
            let id = u32::from_le(option.u32_at::<VALUE>());
            return (length as usize == SERVER_ID_LENGTH).then_some(id.into());
        }
        // Padding has no length. Without a branch, which the verifier would follow both ways in each turn.
        let sized = u32::from(kind ^ NO_OPERATION).wrapping_neg() >> 31;
        at = forget((at as u32 + 1).wrapping_add(length.wrapping_sub(1) * sized)) as usize;
    }
    None
}
